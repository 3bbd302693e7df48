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
    wire = data_pb2.Stat()
    _fill_stat(wire, stat)
    return wire


def _fill_stat(wire: data_pb2.Stat, stat: Stat) -> None:
    """Fill a message where it stands: one that is made elsewhere is copied into each that encloses it."""
    wire.SetInParent()  # the stat of the root may be nothing but zeros
    wire.czxid = stat.czxid
    wire.mzxid = stat.mzxid
    wire.pzxid = stat.pzxid
    wire.ctime = stat.ctime
    wire.mtime = stat.mtime
    wire.version = stat.version
    wire.cversion = stat.cversion
    wire.aversion = stat.aversion
    wire.ephemeral_owner = stat.ephemeral_owner
    wire.data_length = stat.data_length
    wire.num_children = stat.num_children


def _fill_node(wire: data_pb2.Node, node: Node) -> None:
    wire.path = node.path
    wire.value = node.value
    _fill_stat(wire.stat, node.stat)


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


def _fill_children(wire: data_pb2.Children, children: Children) -> None:
    wire.names.extend(children.names)
    for node in children.nodes:
        _fill_node(wire.nodes.add(), node)
    _fill_stat(wire.stat, children.stat)
    wire.more = children.more


def _fill_created(wire: data_pb2.Created, created: Created) -> None:
    wire.path = created.path
    _fill_stat(wire.stat, created.stat)


def _fill_op_result(wire: data_pb2.OpResult, result: OpResult) -> None:
    match result:
        case Created():
            _fill_created(wire.created, result)
        case WasSet():
            _fill_stat(wire.set, result.stat)
        case Deleted():
            wire.deleted = result.count
        case Checked():
            wire.checked = True
        case Node():
            _fill_node(wire.node, result)
        case ExistsResult():
            if result.stat is None:
                wire.absent = True
            else:
                _fill_stat(wire.exists, result.stat)
        case Children():
            _fill_children(wire.children, result)


def _fill_transaction(wire: data_pb2.TransactionResult, result: TransactionResult) -> None:
    wire.succeeded = result.succeeded
    for part in result.results:
        _fill_op_result(wire.results.add(), part)


# ---------------------------------------------------------------------------------------------
# ServerItem bytes


def write_item(sequence: int, zxid: int, result: WriteResult) -> bytes:
    item = coordination_pb2.ServerItem()
    wire = item.write
    wire.sequence = sequence
    wire.zxid = zxid
    if isinstance(result, WasSet):
        _fill_stat(wire.set, result.stat)
    elif isinstance(result, Created):
        _fill_created(wire.created, result)
    elif isinstance(result, Deleted):
        wire.deleted = result.count
    elif isinstance(result, TransactionResult):
        wire.transaction.SetInParent()
        _fill_transaction(wire.transaction, result)
    else:
        wire.error.CopyFrom(encode_failure(result))
    return item.SerializeToString()


def read_item(read_id: int, zxid: int, result: ReadResult) -> bytes:
    item = coordination_pb2.ServerItem()
    wire = item.read
    wire.id = read_id
    wire.zxid = zxid
    if isinstance(result, Node):
        _fill_node(wire.node, result)
    elif isinstance(result, ExistsResult):
        if result.stat is None:
            wire.absent = True
        else:
            _fill_stat(wire.exists, result.stat)
    elif isinstance(result, Children):
        _fill_children(wire.children, result)
    else:
        wire.error.CopyFrom(encode_failure(result))
    return item.SerializeToString()


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
