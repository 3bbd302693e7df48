"""The records of changes, of sessions and of the counters.

Rule of this file: bytes that were written here come back as equal values, and others are refused.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from struct import Struct

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.encoding import FORMAT, Reader, blob, decode, expect_format, text
from coordsvc.statemachine.results import WriteResult
from coordsvc.statemachine.znodes import STAT_BYTES, pack_stat, unpack_stat

_CHANGE = Struct(">BBI")  # format, type, bytes of the path
_CHANGE_PART = Struct(">qI")  # zxid, bytes of the change
_FORMAT_BYTE = bytes((FORMAT,))
_SESSION = Struct(">B6q")
_META = Struct(">B4qQ5q")
_CHANGE_TYPES = {int(kind): kind for kind in ChangeType}


def encode_change(change: Change) -> bytes:
    """Encode all but the zxid, which stands before it: see `changes_part`."""
    path = change.path.encode()
    return _CHANGE.pack(FORMAT, change.type, len(path)) + pack_stat(change.stat) + path + change.value


def changes_part(zxid: int, change: bytes) -> bytes:
    """Return what stands before an encoded change in a record of changes."""
    return _CHANGE_PART.pack(zxid, len(change))


def join_changes(parts: list[bytes]) -> bytes:
    """Make one record of changes: of each its `changes_part`, then itself."""
    return _FORMAT_BYTE + b"".join(parts)


def split_changes(where: str, record: bytes) -> list[tuple[int, bytes]]:
    """Return the zxid and the encoded change of each change in a record."""
    return decode(where, record, _read_changes)


def _read_changes(record: bytes) -> list[tuple[int, bytes]]:
    expect_format(record[0])
    changes = []
    offset = 1
    while offset < len(record):
        zxid, size = _CHANGE_PART.unpack_from(record, offset)
        offset += _CHANGE_PART.size + size
        if offset > len(record):
            raise IndexError("a change is cut off")
        changes.append((zxid, record[offset - size : offset]))
    return changes


def decode_change(where: str, zxid: int, record: bytes) -> Change:
    return decode(where, record, lambda data: _read_change(zxid, data))


def _read_change(zxid: int, record: bytes) -> Change:
    version, kind, path_bytes = _CHANGE.unpack_from(record)
    expect_format(version)
    start = _CHANGE.size + STAT_BYTES
    if len(record) < start + path_bytes:
        raise IndexError("the path is cut off")
    path = record[start : start + path_bytes].decode()
    stat = unpack_stat(record, _CHANGE.size)
    return Change(_CHANGE_TYPES[kind], path, zxid, record[start + path_bytes :], stat)


@dataclass(slots=True)
class Session:
    """A client's replicated identity, and what it may still ask for again.

    `results` holds the zxid and the answer of each write not yet acknowledged, by sequence, ascending.
    `ephemerals` is an ordered set of paths; its order says nothing. `owner` is who attached it last.
    """

    session_id: int
    secret: bytes
    timeout_ms: int
    client_name: str
    opened_ms: int
    last_sequence: int = 0
    acknowledged_sequence: int = 0
    results: dict[int, tuple[int, WriteResult]] = field(default_factory=dict)
    ephemerals: dict[str, None] = field(default_factory=dict)
    owner: tuple[str, int] | None = None
    large_results: dict[int, int] = field(default_factory=dict)  # sequence to bytes, of those worth counting
    large_results_bytes: int = 0
    stored_results: deque[tuple[int, int]] = field(
        default_factory=deque
    )  # first and last sequence of each record


def encode_session(session: Session) -> bytes:
    """Encode what has no record of its own: results and ephemerals have."""
    member, connection = session.owner if session.owner is not None else ("", -1)
    return b"".join(
        (
            _SESSION.pack(
                FORMAT,
                session.session_id,
                session.timeout_ms,
                session.opened_ms,
                session.last_sequence,
                session.acknowledged_sequence,
                connection,
            ),
            blob(session.secret),
            text(session.client_name),
            b"\0" if session.owner is None else b"\1",
            text(member),
        )
    )


def decode_session(where: str, record: bytes) -> Session:
    return decode(where, record, _read_session)


def _read_session(record: bytes) -> Session:
    version, session_id, timeout_ms, opened_ms, last, acknowledged, connection = _SESSION.unpack_from(record)
    expect_format(version)
    _expect_no_negative(session_id, timeout_ms, last, acknowledged)
    reader = Reader(record, _SESSION.size)
    secret = reader.blob()
    client_name = reader.text()
    is_owned = reader.flag()
    member = reader.text()
    reader.end()
    owner = (member, connection) if is_owned else None
    return Session(session_id, secret, timeout_ms, client_name, opened_ms, last, acknowledged, owner=owner)


@dataclass(slots=True)
class Meta:
    """The counters of the machine as of its newest commit."""

    applied_index: int = 0
    applied_term: int = 0
    zxid: int = 0
    time_ms: int = 0
    digest: int = 0
    node_count: int = 0
    next_session_id: int = 1
    history_first_zxid: int = 1
    history_changes: int = 0
    history_bytes: int = 0


def encode_meta(meta: Meta) -> bytes:
    return _META.pack(
        FORMAT,
        meta.applied_index,
        meta.applied_term,
        meta.zxid,
        meta.time_ms,
        meta.digest,
        meta.node_count,
        meta.next_session_id,
        meta.history_first_zxid,
        meta.history_changes,
        meta.history_bytes,
    )


def decode_meta(record: bytes) -> Meta:
    return decode("the counters", record, _read_meta)


def _read_meta(record: bytes) -> Meta:
    version, *numbers = _META.unpack(record)
    expect_format(version)
    _expect_no_negative(*numbers)
    return Meta(*numbers)


def _expect_no_negative(*numbers: int) -> None:
    if min(numbers) < 0:
        raise ValueError(f"a negative number: {min(numbers)}")
