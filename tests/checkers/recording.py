"""From the wire to a history: what a client sent and was answered, in the words of the checkers.

Rule of this file: translation only, of messages that the SDK made or took in; it shares no code with the
server's translation. A recorder that has the protobuf messages of requests and answers needs nothing else.
"""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine import commands
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
    TransactionResult,
    WasSet,
)
from coordsvc.statemachine.types import Stat
from tests.checkers.history import FAIL, OK, UNKNOWN, ReadRequest, Result, Sync, Synced, WriteRequest

# After these errors of a *write* nobody knows whether it was carried out.
_UNCERTAIN = frozenset({ErrorCode.UNKNOWN_OUTCOME, ErrorCode.SESSION_EXPIRED, ErrorCode.REQUEST_TIMEOUT})


def write_request(write: data_pb2.Write) -> tuple[WriteRequest, list[commands.Guard]]:
    """Return the request and its guards."""
    guards = [commands.Guard(guard.path, guard.czxid) for guard in write.guards]
    kind = write.WhichOneof("op")
    if kind == "create":
        return _create(write.create), guards
    if kind == "set":
        return _set(write.set), guards
    if kind == "delete":
        return _delete(write.delete), guards
    assert kind == "transaction", f"the SDK sends no {kind}"
    transaction = write.transaction
    compares = [
        commands.Compare(each.path, each.target, each.operator, each.number, each.value)
        for each in transaction.compares
    ]
    success = [_transaction_operation(each) for each in transaction.success]
    failure = [_transaction_operation(each) for each in transaction.failure]
    return commands.Transaction(compares, success, failure), guards


def _create(create: data_pb2.Create) -> commands.Create:
    return commands.Create(create.path, create.value, create.mode, create.ttl_ms, create.parents)


def _set(message: data_pb2.Set) -> commands.Set:
    return commands.Set(message.path, message.value, message.version if message.HasField("version") else -1)


def _delete(delete: data_pb2.Delete) -> commands.Delete:
    version = delete.version if delete.HasField("version") else -1
    return commands.Delete(delete.path, version, delete.recursive)


def _list(read: data_pb2.ListChildren) -> commands.ListChildren:
    return commands.ListChildren(read.path, read.after, read.limit, read.with_nodes)


def _transaction_operation(operation: data_pb2.TransactionOp) -> commands.TransactionOp:
    kind = operation.WhichOneof("op")
    if kind == "create":
        return _create(operation.create)
    if kind == "set":
        return _set(operation.set)
    if kind == "delete":
        return _delete(operation.delete)
    if kind == "get":
        return commands.Get(operation.get.path)
    if kind == "exists":
        return commands.Exists(operation.exists.path)
    if kind == "list_children":
        return _list(operation.list_children)
    assert kind == "check", f"the SDK sends no {kind}"
    check = operation.check
    version = check.version if check.HasField("version") else -1
    czxid = check.czxid if check.HasField("czxid") else None
    return commands.Check(check.path, version, czxid, check.absent)


def read_request(read: coordination_pb2.Read) -> tuple[ReadRequest, int, int]:
    """Return the request, its consistency and its `min_zxid`. Not for a read that sets a stream."""
    kind = read.WhichOneof("op")
    request: ReadRequest
    if kind == "get":
        request = commands.Get(read.get.path)
    elif kind == "exists":
        request = commands.Exists(read.exists.path)
    elif kind == "list_children":
        request = _list(read.list_children)
    else:
        assert kind == "sync", f"{kind} is no read of the tree"
        request = Sync()
    return request, int(read.consistency), read.min_zxid


def stat_of(stat: data_pb2.Stat) -> Stat:
    return Stat(
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children,
    )


def failure_of(error: data_pb2.Error) -> Failure:
    return Failure(
        ErrorCode(error.code),
        error.message,
        error.path,
        error.expected_version if error.HasField("expected_version") else None,
        error.actual_version if error.HasField("actual_version") else None,
        error.failed_index if error.HasField("failed_index") else None,
        [ErrorCode(code) for code in error.op_codes],
    )


def write_answer(answer: data_pb2.WriteResult) -> tuple[str, int, Result]:
    """Return the outcome, the zxid and the result."""
    kind = answer.WhichOneof("result")
    if kind == "created":
        return OK, answer.zxid, Created(answer.created.path, stat_of(answer.created.stat))
    if kind == "set":
        return OK, answer.zxid, WasSet(stat_of(answer.set))
    if kind == "deleted":
        return OK, answer.zxid, Deleted(answer.deleted)
    if kind == "transaction":
        results = [_operation_result(each) for each in answer.transaction.results]
        return OK, answer.zxid, TransactionResult(answer.transaction.succeeded, results)
    assert kind == "error", f"the service answers no write with {kind}"
    failure = failure_of(answer.error)
    return UNKNOWN if failure.code in _UNCERTAIN else FAIL, answer.zxid, failure


def read_answer(answer: data_pb2.ReadResult) -> tuple[str, int, Result]:
    """Return the outcome, the zxid and the result. Not for the answer to a read that sets a stream."""
    kind = answer.WhichOneof("result")
    result: Result
    if kind == "node":
        result = _node(answer.node)
    elif kind == "exists":
        result = ExistsResult(stat_of(answer.exists))
    elif kind == "absent":
        result = ExistsResult(None)
    elif kind == "children":
        result = _children(answer.children)
    elif kind == "synced":
        result = Synced()
    else:
        assert kind == "error", f"the service answers no read of the tree with {kind}"
        return FAIL, answer.zxid, failure_of(answer.error)
    return OK, answer.zxid, result


def _node(node: data_pb2.Node) -> Node:
    return Node(node.path, node.value, stat_of(node.stat))


def _children(children: data_pb2.Children) -> Children:
    nodes = [_node(node) for node in children.nodes]
    return Children(list(children.names), nodes, stat_of(children.stat), children.more)


def _operation_result(result: data_pb2.OpResult) -> OpResult:
    kind = result.WhichOneof("result")
    if kind == "created":
        return Created(result.created.path, stat_of(result.created.stat))
    if kind == "set":
        return WasSet(stat_of(result.set))
    if kind == "deleted":
        return Deleted(result.deleted)
    if kind == "node":
        return _node(result.node)
    if kind == "exists":
        return ExistsResult(stat_of(result.exists))
    if kind == "absent":
        return ExistsResult(None)
    if kind == "children":
        return _children(result.children)
    assert kind == "checked", f"no operation of a transaction is answered with {kind}"
    return Checked()
