"""Operations of clients: protobuf to domain.

Rule of this file: total. Whatever a well-formed message holds becomes a domain value; what makes no
sense there is refused later by the state machine, with a typed failure.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from coordproto.v1 import data_pb2
from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
    Unknown,
    Write,
)
from coordsvc.statemachine.errors import CorruptStateError

_NO_GUARDS: list[Guard] = []


def decode_create(message: data_pb2.Create) -> Create:
    return Create(message.path, message.value, message.mode, message.ttl_ms, message.parents)


def decode_set(message: data_pb2.Set) -> Set:
    return Set(message.path, message.value, message.version if message.HasField("version") else -1)


def decode_delete(message: data_pb2.Delete) -> Delete:
    return Delete(message.path, message.version if message.HasField("version") else -1, message.recursive)


def decode_check(message: data_pb2.Check) -> Check:
    return Check(
        message.path,
        message.version if message.HasField("version") else -1,
        message.czxid if message.HasField("czxid") else None,
        message.absent,
    )


def decode_list_children(message: data_pb2.ListChildren) -> ListChildren:
    return ListChildren(message.path, message.after, message.limit, message.with_nodes)


def decode_compare(message: data_pb2.Compare) -> Compare:
    return Compare(message.path, message.target, message.operator, message.number, message.value)


def decode_transaction(message: data_pb2.Transaction) -> Transaction:
    return Transaction(
        [decode_compare(compare) for compare in message.compares],
        [_decode_transaction_op(op) for op in message.success],
        [_decode_transaction_op(op) for op in message.failure],
    )


def _decode_transaction_op(message: data_pb2.TransactionOp) -> TransactionOp:
    kind = message.WhichOneof("op")
    if kind == "create":
        return decode_create(message.create)
    if kind == "set":
        return decode_set(message.set)
    if kind == "delete":
        return decode_delete(message.delete)
    if kind == "check":
        return decode_check(message.check)
    if kind == "get":
        return Get(message.get.path)
    if kind == "exists":
        return Exists(message.exists.path)
    if kind == "list_children":
        return decode_list_children(message.list_children)
    return Check("")  # An operation of an unknown kind: fails as an invalid path.


_DECODERS: dict[str, Callable[[data_pb2.Write], Create | Set | Delete | Transaction | Unknown]] = {
    "create": lambda write: decode_create(write.create),
    "set": lambda write: decode_set(write.set),
    "delete": lambda write: decode_delete(write.delete),
    "transaction": lambda write: decode_transaction(write.transaction),
    "refused": lambda write: Unknown(write.refused),
}


def decode_guards(messages: data_pb2.Write) -> list[Guard]:
    guards = messages.guards
    if not guards:
        return _NO_GUARDS
    return [Guard(guard.path, guard.czxid) for guard in guards]


def decode_write(message: data_pb2.Write) -> Write:
    """Translate one write. An empty one becomes `Unknown`, which the state machine refuses."""
    kind = message.WhichOneof("op")
    if kind is None:
        return Write(Unknown(), decode_guards(message))
    return Write(_DECODERS[kind](message), decode_guards(message))


def decode_writes(encoded: bytes) -> list[Write]:
    """Translate an encoded WriteBatch of our own log, in order.

    Raises:
        CorruptStateError: It is none. What clients and peers send was checked before it entered the log.
    """
    try:
        batch = data_pb2.WriteBatch.FromString(encoded)
    except DecodeError as error:
        raise CorruptStateError("the log holds a command whose writes are none") from error
    return [decode_write(write) for write in batch.writes]
