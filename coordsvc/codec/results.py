"""Answers and events: domain to protobuf, and to the bytes of one `ServerItem`.

Rule of this file: what leaves for a client is encoded here, once. An event for many watchers is encoded
once and wrapped per connection by joining bytes.
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine.changes import Change
from coordsvc.statemachine.records import Session
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    OpResult,
    ReadResult,
    TransactionResult,
    WasSet,
    WriteResult,
)
from coordsvc.statemachine.types import Stat

# Refusals after which the very same request may be sent again without harm.
_SAFE_TO_RETRY = frozenset(
    {
        ErrorCode.NO_LEADER,
        ErrorCode.CATCHING_UP,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.SLOW_CONSUMER,
        ErrorCode.SESSION_MOVED,
        ErrorCode.SEQUENCE_GAP,
    }
)


def encode_stat(stat: Stat) -> data_pb2.Stat:
    return data_pb2.Stat(
        czxid=stat.czxid,
        mzxid=stat.mzxid,
        pzxid=stat.pzxid,
        ctime=stat.ctime,
        mtime=stat.mtime,
        version=stat.version,
        cversion=stat.cversion,
        aversion=stat.aversion,
        ephemeral_owner=stat.ephemeral_owner,
        data_length=stat.data_length,
        num_children=stat.num_children,
    )


def encode_node(node: Node) -> data_pb2.Node:
    return data_pb2.Node(path=node.path, value=node.value, stat=encode_stat(node.stat))


def encode_failure(failure: Failure, leader_hint: str = "") -> data_pb2.Error:
    return data_pb2.Error(
        code=int(failure.code),  # type: ignore[arg-type]  # the numbers are the same by contract
        message=failure.message,
        path=failure.path,
        expected_version=failure.expected_version,
        actual_version=failure.actual_version,
        failed_index=failure.failed_index,
        op_codes=[int(code) for code in failure.op_codes],  # type: ignore[misc]  # as above
        leader_hint=leader_hint,
        safe_to_retry=failure.code in _SAFE_TO_RETRY,
    )


def encode_children(children: Children) -> data_pb2.Children:
    return data_pb2.Children(
        names=children.names,
        nodes=[encode_node(node) for node in children.nodes],
        stat=encode_stat(children.stat),
        more=children.more,
    )


def _encode_op_result(result: OpResult) -> data_pb2.OpResult:
    match result:
        case Created():
            return data_pb2.OpResult(
                created=data_pb2.Created(path=result.path, stat=encode_stat(result.stat))
            )
        case WasSet():
            return data_pb2.OpResult(set=encode_stat(result.stat))
        case Deleted():
            return data_pb2.OpResult(deleted=result.count)
        case Checked():
            return data_pb2.OpResult(checked=True)
        case Node():
            return data_pb2.OpResult(node=encode_node(result))
        case ExistsResult():
            if result.stat is None:
                return data_pb2.OpResult(absent=True)
            return data_pb2.OpResult(exists=encode_stat(result.stat))
        case Children():
            return data_pb2.OpResult(children=encode_children(result))


def encode_write_result(sequence: int, zxid: int, result: WriteResult) -> data_pb2.WriteResult:
    if isinstance(result, WasSet):
        return data_pb2.WriteResult(sequence=sequence, zxid=zxid, set=encode_stat(result.stat))
    if isinstance(result, Created):
        created = data_pb2.Created(path=result.path, stat=encode_stat(result.stat))
        return data_pb2.WriteResult(sequence=sequence, zxid=zxid, created=created)
    if isinstance(result, Deleted):
        return data_pb2.WriteResult(sequence=sequence, zxid=zxid, deleted=result.count)
    if isinstance(result, TransactionResult):
        transaction = data_pb2.TransactionResult(
            succeeded=result.succeeded, results=[_encode_op_result(part) for part in result.results]
        )
        return data_pb2.WriteResult(sequence=sequence, zxid=zxid, transaction=transaction)
    return data_pb2.WriteResult(sequence=sequence, zxid=zxid, error=encode_failure(result))


def encode_read_result(read_id: int, zxid: int, result: ReadResult) -> data_pb2.ReadResult:
    if isinstance(result, Node):
        return data_pb2.ReadResult(id=read_id, zxid=zxid, node=encode_node(result))
    if isinstance(result, ExistsResult):
        if result.stat is None:
            return data_pb2.ReadResult(id=read_id, zxid=zxid, absent=True)
        return data_pb2.ReadResult(id=read_id, zxid=zxid, exists=encode_stat(result.stat))
    if isinstance(result, Children):
        return data_pb2.ReadResult(id=read_id, zxid=zxid, children=encode_children(result))
    return data_pb2.ReadResult(id=read_id, zxid=zxid, error=encode_failure(result))


# ---------------------------------------------------------------------------------------------
# ServerItem bytes


def write_item(sequence: int, zxid: int, result: WriteResult) -> bytes:
    return coordination_pb2.ServerItem(write=encode_write_result(sequence, zxid, result)).SerializeToString()


def read_item(read_id: int, zxid: int, result: ReadResult) -> bytes:
    return coordination_pb2.ServerItem(read=encode_read_result(read_id, zxid, result)).SerializeToString()


def synced_item(read_id: int, zxid: int) -> bytes:
    result = data_pb2.ReadResult(id=read_id, zxid=zxid, synced=True)
    return coordination_pb2.ServerItem(read=result).SerializeToString()


def watching_item(read_id: int, zxid: int) -> bytes:
    result = data_pb2.ReadResult(id=read_id, zxid=zxid, watching=True)
    return coordination_pb2.ServerItem(read=result).SerializeToString()


def attached_item(session: Session, zxid: int, member: str, endpoints: list[str]) -> bytes:
    attached = coordination_pb2.Attached(
        session_id=session.session_id,
        secret=session.secret,
        timeout_ms=session.timeout_ms,
        last_sequence=session.last_sequence,
        zxid=zxid,
        member=member,
        endpoints=endpoints,
    )
    return coordination_pb2.ServerItem(attached=attached).SerializeToString()


def pong_item(ping: int) -> bytes:
    return coordination_pb2.ServerItem(pong=ping).SerializeToString()


def closed_item() -> bytes:
    return coordination_pb2.ServerItem(closed=True).SerializeToString()


def move_item(reason: str) -> bytes:
    return coordination_pb2.ServerItem(move=coordination_pb2.Move(reason=reason)).SerializeToString()


def endpoints_item(endpoints: list[str]) -> bytes:
    return coordination_pb2.ServerItem(
        endpoints=coordination_pb2.Endpoints(endpoints=endpoints)
    ).SerializeToString()


def error_item(failure: Failure, leader_hint: str = "") -> bytes:
    return coordination_pb2.ServerItem(error=encode_failure(failure, leader_hint)).SerializeToString()


def encode_event(event_type: int, path: str, zxid: int, change: Change | None, *, with_value: bool) -> bytes:
    """Encode an Event. `change` is the one at `path` itself; None for CHILDREN and RESYNC."""
    event = data_pb2.Event(type=event_type, path=path, zxid=zxid)  # type: ignore[arg-type]  # same numbers
    if change is not None:
        event.stat.CopyFrom(encode_stat(change.stat))
        if with_value:
            event.value = change.value
    return event.SerializeToString()


def varint(number: int) -> bytes:
    """Encode a non-negative integer as a protobuf varint."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_watch_ids(watch_ids: list[int]) -> bytes:
    """Encode the ids of the watches of one connection, for `delivery_item`."""
    return b"".join([varint(watch_id) for watch_id in watch_ids])


def delivery_item(encoded_ids: bytes, event: bytes) -> bytes:
    """Wrap an encoded Event for the watches of one connection: ServerItem{delivery{watch_ids, event}}."""
    ids_length, event_length = varint(len(encoded_ids)), varint(len(event))
    delivery = b"".join((b"\x0a", ids_length, encoded_ids, b"\x12", event_length, event))
    return b"".join((b"\x1a", varint(len(delivery)), delivery))


def join_items(items: list[bytes]) -> bytes:
    """Make the bytes of one ServerFrame out of encoded items, in order."""
    parts: list[bytes] = []
    for item in items:
        parts += (b"\x0a", varint(len(item)), item)
    return b"".join(parts)
