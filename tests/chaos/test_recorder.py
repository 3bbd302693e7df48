"""What is recorded survives the death of the process that recorded it."""

from __future__ import annotations

import math
from pathlib import Path

from coordclient.errors import RequestTimeoutError
from coordclient.pipeline import Operation
from coordproto.v1 import coordination_pb2, data_pb2
from tests.chaos.fenced_file import FencedFile
from tests.chaos.judge import read_run
from tests.chaos.recorder import Recorder, called_file, keep_unfinished
from tests.checkers.history import FAIL, OK, UNKNOWN


def write(value: bytes) -> Operation:
    return Operation(math.inf, write=data_pb2.Write(set=data_pb2.Set(path="/a", value=value)))


def test_writes_that_a_killed_client_never_saw_answered_are_kept_as_unknown(tmp_path: Path) -> None:
    histories = tmp_path / "history"
    histories.mkdir()
    file_path = histories / "p1.jsonl"
    with file_path.open("w") as file, called_file(file_path).open("w") as called:
        recorder = Recorder("p1.1", file, called)
        answered, unanswered = write(b"answered"), write(b"unanswered")
        for operation in (answered, unanswered):
            recorder.called(operation, 7)
        recorder.settled(answered, data_pb2.WriteResult(zxid=3, set=data_pb2.Stat(mzxid=3)))
    keep_unfinished(file_path)

    first, second = read_run(tmp_path).operations
    assert (first.outcome, first.zxid, first.number) == (OK, 3, 1)
    assert (second.outcome, second.completed_ns, second.number) == (UNKNOWN, None, 2)
    assert second.session == 7


def test_only_what_may_have_been_applied_is_unknown(tmp_path: Path) -> None:
    histories = tmp_path / "history"
    histories.mkdir()
    with (histories / "p1.jsonl").open("w") as file:
        recorder = Recorder("p1.1", file)
        never_sent, sent = write(b"1"), write(b"2")
        read = Operation(math.inf, read=coordination_pb2.Read(get=data_pb2.Get(path="/a")))
        sent.sequence = read.sequence = 1
        for operation in (never_sent, sent, read):
            recorder.called(operation, 7)
        for operation in (never_sent, sent, read):
            error = RequestTimeoutError("late")
            recorder.settled(operation, error)

    assert [each.outcome for each in read_run(tmp_path).operations] == [FAIL, UNKNOWN, FAIL]


def test_the_fenced_file_refuses_smaller_tokens_and_keeps_its_own_record(tmp_path: Path) -> None:
    histories = tmp_path / "history"
    histories.mkdir()
    answers = []
    for client, token in (("x", 5), ("y", 9), ("x", 5), ("y", 9)):
        answers.append(FencedFile(tmp_path, histories, "ledger").write(client, token, 1))

    assert answers == [True, True, False, True]
    recorded = read_run(tmp_path).fenced_writes
    assert [(each.order, each.client, each.token, each.accepted) for each in recorded] == [
        (1, "x", 5, True),
        (2, "y", 9, True),
        (3, "x", 5, False),
        (4, "y", 9, True),
    ]
