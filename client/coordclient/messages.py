"""Requests and answers: the SDK's arguments to protobuf and back.

Rule of this file: translation only. Fields are set one by one, because that costs half of what nested
constructors do, and this is the hot path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from coordclient.errors import InvalidArgumentError, LimitExceededError, MalformedError
from coordclient.pipeline import OPERATION_BYTES_MAX
from coordclient.types import (
    ANY_VERSION,
    Checked,
    Created,
    Deleted,
    Guard,
    Guarding,
    OperationResult,
    node_from_wire,
    stat_from_wire,
)
from coordproto.v1 import data_pb2

TTL_MS_MAX = 0xFFFFFFFFFF
_SMALL = OPERATION_BYTES_MAX - (64 << 10)  # a value of this size fits, whatever stands beside it


def create_mode(
    *, ephemeral: bool, sequential: bool, container: bool, ttl: float | None, linger: float = 0.0
) -> data_pb2.CreateMode.ValueType:
    """Return the mode for the flags of a create; refuse flags that exclude each other."""
    if linger and not ephemeral:
        raise InvalidArgumentError("linger is for ephemeral nodes: it is how long they outlive their session")
    if container:
        if ephemeral or sequential or ttl is not None:
            raise InvalidArgumentError("container cannot be combined with ephemeral, sequential or ttl")
        return data_pb2.CONTAINER
    if ttl is not None:
        if ephemeral:
            raise InvalidArgumentError("ttl cannot be combined with ephemeral")
        return data_pb2.TTL_SEQUENTIAL if sequential else data_pb2.TTL
    if ephemeral:
        return data_pb2.EPHEMERAL_SEQUENTIAL if sequential else data_pb2.EPHEMERAL
    return data_pb2.PERSISTENT_SEQUENTIAL if sequential else data_pb2.PERSISTENT


def fill_create(
    create: data_pb2.Create,
    path: str,
    value: bytes,
    *,
    mode: data_pb2.CreateMode.ValueType,
    ttl: float | None,
    parents: bool,
    linger: float = 0.0,
) -> None:
    create.path = path
    create.value = check_size(value, path)
    create.mode = mode
    if ttl is not None:
        create.ttl_ms = _milliseconds(ttl, "a ttl", path)
    elif linger:
        create.ttl_ms = _milliseconds(linger, "a linger", path)
    if parents:
        create.parents = True


def _milliseconds(seconds: float, what: str, path: str) -> int:
    milliseconds = round(seconds * 1000) if 0 < seconds < math.inf else 0
    if not 1 <= milliseconds <= TTL_MS_MAX:
        raise InvalidArgumentError(f"{what} of {seconds} s is out of range", path=path)
    return milliseconds


def fill_set(message: data_pb2.Set, path: str, value: bytes, version: int | None) -> None:
    message.path = path
    message.value = check_size(value, path)
    if version is not None and version != ANY_VERSION:
        message.version = version


def fill_delete(message: data_pb2.Delete, path: str, version: int | None, *, recursive: bool) -> None:
    message.path = path
    if version is not None and version != ANY_VERSION:
        message.version = version
    if recursive:
        message.recursive = True


def check_size(value: bytes, path: str) -> bytes:
    if len(value) > _SMALL:
        raise LimitExceededError(
            f"a value of {len(value)} bytes is too large; keep it in other storage, and its address here",
            path=path,
        )
    return value


def guards_of(guard: Guard | None) -> list[tuple[str, int]]:
    """Return the `(path, czxid)` pairs of whatever was given as `guard=`."""
    if guard is None:
        return []
    if isinstance(guard, Guarding):
        return [guard.guard]
    if isinstance(guard, tuple) and len(guard) == 2 and isinstance(guard[0], str):
        return [_pair(guard)]
    if isinstance(guard, Iterable):
        return [part.guard if isinstance(part, Guarding) else _pair(part) for part in guard]
    raise InvalidArgumentError(f"{guard!r} is no guard; give a held lock, or (path, czxid)")


def _pair(guard: object) -> tuple[str, int]:
    if isinstance(guard, tuple) and len(guard) == 2:
        path, czxid = guard
        if isinstance(path, str) and isinstance(czxid, int):
            return path, czxid
    raise InvalidArgumentError(f"{guard!r} is no guard; give a held lock, or (path, czxid)")


def operation_result(result: data_pb2.OpResult) -> OperationResult:
    """Translate the answer of one operation of a transaction. None: an `exists` found no node."""
    kind = result.WhichOneof("result")
    if kind == "created":
        return Created(result.created.path, stat_from_wire(result.created.stat))
    if kind == "set":
        return stat_from_wire(result.set)
    if kind == "deleted":
        return Deleted(result.deleted)
    if kind == "checked":
        return Checked()
    if kind == "node":
        return node_from_wire(result.node)
    if kind == "exists":
        return stat_from_wire(result.exists)
    if kind == "children":
        return list(result.children.names)
    if kind == "absent":
        return None
    raise MalformedError("the service answered an operation with something that this client does not know")
