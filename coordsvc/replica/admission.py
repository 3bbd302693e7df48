"""Limits of this member on what enters the log. Promise G10.

Rule of this file: what is too large is replaced, not dropped. Its sequence must still be used up, so the
write that stands in for it is answered, in its place, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordproto.v1 import data_pb2
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.types import Limits

_HARD_LIMITS = Limits()  # beyond these the state machine itself refuses, on all members alike


def refuse_oversized(batch: data_pb2.WriteBatch, settings: ReplicaSettings) -> None:
    """Replace each write of the batch that exceeds a limit by its refusal."""
    size = batch.ByteSize()
    checks_paths = settings.path_bytes_max < _HARD_LIMITS.path_bytes
    if size <= settings.value_bytes_max and not checks_paths:
        return  # A batch that is smaller than the largest value cannot hold a larger one.
    for write in batch.writes:
        reason = _excess(write, settings, checks_paths=checks_paths)
        if reason:
            write.refused = reason


def _excess(write: data_pb2.Write, settings: ReplicaSettings, *, checks_paths: bool) -> str:
    for path, value in _paths_and_values(write):
        if len(value) > settings.value_bytes_max:
            shown = path[:256]
            return f"the value for {shown} has {len(value)} bytes; the limit is {settings.value_bytes_max}"
        if checks_paths and len(path.encode()) > settings.path_bytes_max:
            return f"a path of {len(path.encode())} bytes; the limit is {settings.path_bytes_max}"
    return ""


def _paths_and_values(write: data_pb2.Write) -> Iterator[tuple[str, bytes]]:
    kind = write.WhichOneof("op")
    if kind == "create":
        yield write.create.path, write.create.value
    elif kind == "set":
        yield write.set.path, write.set.value
    elif kind == "delete":
        yield write.delete.path, b""
    elif kind == "transaction":
        for op in (*write.transaction.success, *write.transaction.failure):
            op_kind = op.WhichOneof("op")
            if op_kind == "create":
                yield op.create.path, op.create.value
            elif op_kind == "set":
                yield op.set.path, op.set.value
            elif op_kind == "delete":
                yield op.delete.path, b""
