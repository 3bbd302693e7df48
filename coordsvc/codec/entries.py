"""Commands and log entries. An entry is an EntryBatch whose commands are joined, never encoded again.

Rule of this file: `join_commands` produces exactly what protobuf would for the same EntryBatch.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from coordproto.v1 import data_pb2, log_pb2
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.codec.results import varint
from coordsvc.statemachine.errors import CorruptStateError


def join_commands(time_ms: int, commands: Sequence[bytes]) -> bytes:
    """Make one entry of already encoded commands, stamped with the leader's clock (ms since the epoch)."""
    parts: list[bytes] = [b"\x08", varint(time_ms)]
    for command in commands:
        parts += (b"\x12", varint(len(command)), command)
    return b"".join(parts)


def check_command(encoded: bytes) -> None:
    """See that every member can apply a command that a peer sent: what is in the log cannot be taken back.

    Raises:
        MalformedFrame: It is not a command, or carries writes that are none.
    """
    try:
        command = log_pb2.Command.FromString(encoded)
        kind = command.WhichOneof("command")
        if kind == "session_writes":
            data_pb2.WriteBatch.FromString(command.session_writes.writes)
        elif kind == "anonymous_writes":
            data_pb2.WriteBatch.FromString(command.anonymous_writes.writes)
    except DecodeError as error:
        raise MalformedFrame("a forwarded command that is not one") from error
    if kind is None:
        raise MalformedFrame("a forwarded command of an unknown kind")


def split_entry(data: bytes) -> log_pb2.EntryBatch:
    """Decode an entry of our own log. Its checksum was right, so whoever proposed it wrote nonsense.

    Raises:
        CorruptStateError: It is no batch of commands.
    """
    try:
        return log_pb2.EntryBatch.FromString(data)
    except DecodeError as error:
        raise CorruptStateError("the log holds an entry that is no batch of commands") from error


def session_writes(
    origin: str,
    request_id: int,
    session_id: int,
    first_sequence: int,
    acknowledged_sequence: int,
    writes: bytes,
) -> bytes:
    return log_pb2.Command(
        origin=origin,
        request_id=request_id,
        session_writes=log_pb2.SessionWrites(
            session_id=session_id,
            first_sequence=first_sequence,
            acknowledged_sequence=acknowledged_sequence,
            writes=writes,
        ),
    ).SerializeToString()


def anonymous_writes(origin: str, request_id: int, writes: bytes) -> bytes:
    return log_pb2.Command(
        origin=origin, request_id=request_id, anonymous_writes=log_pb2.AnonymousWrites(writes=writes)
    ).SerializeToString()


def open_session(origin: str, request_id: int, secret: bytes, timeout_ms: int, client_name: str) -> bytes:
    return log_pb2.Command(
        origin=origin,
        request_id=request_id,
        open_session=log_pb2.OpenSession(secret=secret, timeout_ms=timeout_ms, client_name=client_name),
    ).SerializeToString()


def attach_session(origin: str, request_id: int, session_id: int, secret: bytes) -> bytes:
    return log_pb2.Command(
        origin=origin,
        request_id=request_id,
        attach_session=log_pb2.AttachSession(session_id=session_id, secret=secret),
    ).SerializeToString()


def end_session(origin: str, request_id: int, session_id: int, *, expired: bool) -> bytes:
    return log_pb2.Command(
        origin=origin,
        request_id=request_id,
        end_session=log_pb2.EndSession(session_id=session_id, expired=expired),
    ).SerializeToString()


def reap(paths: list[str]) -> bytes:
    return log_pb2.Command(reap=log_pb2.Reap(paths=paths)).SerializeToString()
