"""What goes over the wire is told in a history as the server understands it, and as it answered."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
)
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
from tests.checkers.history import FAIL, OK, UNKNOWN, Sync, Synced
from tests.checkers.recording import read_answer, read_request, write_answer, write_request

STAT = Stat(*range(1, 12))


def wire_stat() -> data_pb2.Stat:
    stat = data_pb2.Stat()
    for number, field in enumerate(data_pb2.Stat.DESCRIPTOR.fields, 1):
        setattr(stat, field.name, number)
    return stat


def test_writes_are_told_with_their_defaults_and_guards() -> None:
    write = data_pb2.Write(guards=[data_pb2.Guard(path="/g", czxid=7)])
    write.set.path, write.set.value = "/a", b"x"
    assert write_request(write) == (Set("/a", b"x", -1), [Guard("/g", 7)])

    write.set.version = 0
    assert write_request(write)[0] == Set("/a", b"x", 0)

    write.delete.path, write.delete.recursive = "/a", True
    assert write_request(write)[0] == Delete("/a", -1, recursive=True)

    write.create.path, write.create.mode, write.create.ttl_ms = "/a", data_pb2.TTL, 5
    write.create.parents = True
    assert write_request(write)[0] == Create("/a", b"", 5, 5, parents=True)


def test_a_transaction_is_told_with_all_its_operations() -> None:
    transaction = data_pb2.Transaction()
    compare = transaction.compares.add(path="/a", target=data_pb2.Compare.VALUE, value=b"x")
    compare.operator = data_pb2.Compare.LESS
    transaction.success.add().check.CopyFrom(data_pb2.Check(path="/a", czxid=3))
    transaction.success.add().get.path = "/a"
    transaction.success.add().exists.path = "/a"
    transaction.success.add().list_children.path = "/a"
    transaction.failure.add().create.path = "/b"

    request, _ = write_request(data_pb2.Write(transaction=transaction))

    assert isinstance(request, Transaction)
    assert request.compares == [Compare("/a", 8, 2, value=b"x")]
    assert request.success[:2] == [Check("/a", -1, 3), Get("/a")]
    assert request.success[3] == ListChildren("/a")
    assert request.failure == [Create("/b")]


def test_reads_are_told_with_what_they_ask_for() -> None:
    read = coordination_pb2.Read(consistency=data_pb2.STALE, min_zxid=9)
    read.list_children.path, read.list_children.limit = "/a", 3
    assert read_request(read) == (ListChildren("/a", "", 3), 2, 9)

    read.sync.SetInParent()
    assert read_request(read)[0] == Sync()


def test_answers_are_told_in_full() -> None:
    answer = data_pb2.WriteResult(zxid=4, set=wire_stat())
    assert write_answer(answer) == (OK, 4, WasSet(STAT))

    answer.created.path = "/a"
    answer.created.stat.CopyFrom(wire_stat())
    assert write_answer(answer) == (OK, 4, Created("/a", STAT))

    answer.deleted = 3
    assert write_answer(answer) == (OK, 4, Deleted(3))

    transaction = answer.transaction
    transaction.succeeded = True
    transaction.results.add().checked = True
    transaction.results.add().absent = True
    transaction.results.add().deleted = 2
    results: list[OpResult] = [Checked(), ExistsResult(None), Deleted(2)]
    assert write_answer(answer) == (OK, 4, TransactionResult(succeeded=True, results=results))


def test_the_answers_of_reads_are_told_in_full() -> None:
    answer = data_pb2.ReadResult(zxid=4, node=data_pb2.Node(path="/a", value=b"x", stat=wire_stat()))
    assert read_answer(answer) == (OK, 4, Node("/a", b"x", STAT))

    answer.children.names.append("n")
    answer.children.stat.CopyFrom(wire_stat())
    answer.children.more = True
    assert read_answer(answer) == (OK, 4, Children(["n"], [], STAT, more=True))

    answer.absent = True
    assert read_answer(answer) == (OK, 4, ExistsResult(None))

    answer.synced = True
    assert read_answer(answer) == (OK, 4, Synced())


def test_a_refusal_is_told_with_its_details() -> None:
    error = data_pb2.Error(code=data_pb2.BAD_VERSION, path="/a", expected_version=0, actual_version=2)
    answer = data_pb2.WriteResult(zxid=4, error=error)

    assert write_answer(answer) == (FAIL, 4, Failure(ErrorCode.BAD_VERSION, "", "/a", 0, 2))
    assert read_answer(data_pb2.ReadResult(zxid=4, error=error))[0] == FAIL


@pytest.mark.parametrize(
    "code", [data_pb2.UNKNOWN_OUTCOME, data_pb2.SESSION_EXPIRED, data_pb2.REQUEST_TIMEOUT]
)
def test_some_refusals_leave_the_outcome_of_a_write_open(code: data_pb2.ErrorCode.ValueType) -> None:
    assert write_answer(data_pb2.WriteResult(error=data_pb2.Error(code=code)))[0] == UNKNOWN


def test_every_code_of_the_wire_has_a_name_here() -> None:
    names = {int(code): name for name, code in data_pb2.ErrorCode.items()}

    assert names == {int(code): code.name for code in ErrorCode}
