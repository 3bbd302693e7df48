"""The demonstration's checks find what they are for: each planted violation fails, a good run passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordclient.types import Event, EventType
from examples.demo.checks import check_discovery, check_leaders, check_ledger
from examples.demo.processes import DemoFailedError, Line


def work(*values: str) -> list[Event]:
    created = Event(EventType.CREATED, "/demo/work", 1)
    return [created, *(Event(EventType.CHANGED, "/demo/work", 2, value.encode()) for value in values)]


def said(*lines: tuple[float, str, str]) -> list[Line]:
    return [Line(time_s, program, 1, text) for time_s, program, text in lines]


GOOD_WORK = ("a 5 1", "a 5 2", "b 9 1", "b 9 2", "a 12 1")
ELECTED = said((1.0, "candidate-a", "elected token=5"), (3.0, "candidate-b", "elected token=9"))


def test_leaders_one_after_the_other_are_right() -> None:
    assert "3 terms" in check_leaders(work(*GOOD_WORK), ELECTED, {("candidate-a", 1): 2.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a 5 1", "b 9 1", "a 5 2"), "under token 5 after token 9"),
        (("a 5 1", "b 5 2"), "token 5 belongs to a and to b"),
        (("a 5 1", "a 5 3", "b 9 1"), "write 3 where 2 was due"),
        (("a 5 1", "a 5 1", "b 9 1"), "write 1 where 2 was due"),
        (("a 5 1", "b 9 2"), "write 2 where 1 was due"),
        (("a 5 1", "a 7 1"), "never handed over"),
    ],
)
def test_a_wrong_order_of_leaders_work_is_found(values: tuple[str, ...], message: str) -> None:
    with pytest.raises(DemoFailedError, match=message):
        check_leaders(work(*values), [], {})


def test_an_election_while_another_one_leads_is_found() -> None:
    with pytest.raises(DemoFailedError, match="candidate-b was elected while candidate-a led"):
        check_leaders(work(*GOOD_WORK), ELECTED, {("candidate-a", 1): 3.5})


def test_a_leader_that_was_deposed_does_not_lead() -> None:
    lines = said(
        (1.0, "candidate-a", "elected token=5"),
        (2.0, "candidate-a", "deposed"),
        (3.0, "candidate-b", "elected token=9"),
    )

    assert check_leaders(work(*GOOD_WORK), lines, {})


def entry(number: int, token: int) -> str:
    return f"begin {number} token {token} by a\n  what happened\nend {number}\n"


def test_a_whole_file_is_right(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(entry(1, 4) + entry(2, 4) + entry(3, 8), encoding="utf-8")

    assert "3 entries under 2 tokens" in check_ledger(path, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry(1, 4) + entry(3, 4), "entry 3 stands where 2 was due"),
        (entry(1, 4) + entry(1, 4), "entry 1 stands where 2 was due"),
        (entry(1, 4) + entry(2, 3), "token 3, older than 4"),
        (entry(1, 4) + entry(2, 4)[:-4], "torn or interleaved after entry 1"),
        ("begin 1 token 4 by a\n" + entry(1, 4), "torn or interleaved after entry 0"),
        (entry(1, 4), "has 1 entries, the service counted 2"),
    ],
)
def test_a_damaged_file_is_found(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ledger"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DemoFailedError, match=message):
        check_ledger(path, 2)


def test_the_watchers_last_view_counts() -> None:
    lines = said((1.0, "watcher", "instances 1"), (2.0, "watcher", "instances 1,2"))

    assert "after 2 views" in check_discovery(lines, [2, 1])
    with pytest.raises(DemoFailedError, match="not 'instances 1'"):
        check_discovery(lines, [1])
    with pytest.raises(DemoFailedError, match="nothing"):
        check_discovery([], [1])
