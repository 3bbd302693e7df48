"""Notes of members and client joined to the stages of a write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import breakdown
from bench.breakdown import STAGES, IncompleteError, MemberNotes, TracedWrite, chain_of, figures, table
from bench.measuring import BenchError
from bench.traced_member import (
    ACKNOWLEDGED,
    ANSWER,
    APPENDED,
    APPLIED,
    APPLY,
    DECODE,
    DISK_BEGIN,
    DISK_END,
    FORWARDED,
    LINK_OUT,
    PERSIST,
    PERSISTED,
)

ROOT = Path(__file__).parents[3]

# One write at index 7: "a" leads, "b" completes the majority, "c" is slow. Moments in ns.
OF_LEADER: list[list[Any]] = [
    [DECODE, 300, 90],
    [PERSIST, 400, 7],
    [LINK_OUT, 450, "b"],
    [LINK_OUT, 460, "c"],
    [PERSISTED, 900, 7],
    [ACKNOWLEDGED, 1200, ["b", 7]],
    [APPLY, 1300, 7],
    [APPLIED, 1400, 7],
    [ANSWER, 1450, 1],
    [ACKNOWLEDGED, 1460, ["c", 7]],
]
OF_FOLLOWER: list[list[Any]] = [
    [APPENDED, 500, [6, 6]],  # a heartbeat's, which is not it
    [APPENDED, 510, [7, 6]],
    [PERSIST, 600, 7],
    [DISK_BEGIN, 650, 7],
    [DISK_END, 1000, 7],
    [PERSISTED, 1050, 7],
    [LINK_OUT, 1100, "a"],
]
WRITE = TracedWrite(called=100, sent=150, answered=1500, returned=1600)


def notes_of(leader: list[list[Any]], follower: list[list[Any]]) -> dict[str, MemberNotes]:
    return {
        "a": MemberNotes("a", leader),
        "b": MemberNotes("b", follower),
        "c": MemberNotes("c", []),
    }


def test_the_stages_of_a_write_add_up_to_its_time() -> None:
    chain = chain_of(WRITE, "a", "a", notes_of(OF_LEADER, OF_FOLLOWER))

    assert chain.total_ns == WRITE.returned - WRITE.called
    assert chain.stages[breakdown.GRPC_IN] == 150
    assert chain.stages[breakdown.APPEND_LINK] == 60
    assert chain.stages[breakdown.DISK] == 350
    assert chain.stages[breakdown.APPLYING] == 100
    assert chain.own_disk_ns == 500
    assert list(chain.stages) == [stage for stage in STAGES if stage in chain.stages]


def test_a_client_of_a_follower_goes_through_both_links_once_more() -> None:
    leader = [
        [FORWARDED, 380, "b"],
        *(note for note in OF_LEADER if note[0] not in (DECODE, APPLY, APPLIED, ANSWER)),
        [LINK_OUT, 1220, "b"],
    ]
    follower = [
        [DECODE, 300, 90],
        [LINK_OUT, 350, "a"],
        *OF_FOLLOWER,
        [APPENDED, 1250, [7, 7]],
        [APPLY, 1300, 7],
        [APPLIED, 1400, 7],
        [ANSWER, 1450, 1],
    ]

    chain = chain_of(WRITE, "b", "a", notes_of(leader, follower))

    assert list(chain.stages) == list(STAGES)
    assert chain.total_ns == WRITE.returned - WRITE.called
    assert chain.stages[breakdown.FORWARD_LINK] == 30
    assert chain.stages[breakdown.NOTICE_LINK] == 30


def test_a_majority_that_the_leaders_own_disk_completed_is_told_apart() -> None:
    slow_disk = [[PERSISTED, 1250, 7] if note[0] == PERSISTED else note for note in OF_LEADER]

    chain = chain_of(WRITE, "a", "a", notes_of(slow_disk, OF_FOLLOWER))

    assert chain.is_own_disk_last
    assert not chain.stages


@pytest.mark.parametrize("point", [DECODE, PERSIST, PERSISTED, APPLY, APPLIED, ANSWER])
def test_a_write_with_a_missing_note_is_left_out(point: str) -> None:
    leader = [note for note in OF_LEADER if note[0] != point]

    with pytest.raises(IncompleteError):
        chain_of(WRITE, "a", "a", notes_of(leader, OF_FOLLOWER))


def test_what_the_medians_do_not_add_up_to_is_told() -> None:
    found = {
        "leader": {
            "stages": {breakdown.DISK: 200.0, breakdown.APPLYING: 50.0},
            "total": 300.0,
            "own_disk": 1,
        },
        "follower": {"stages": {breakdown.DISK: 200.0}, "total": 400.0, "own_disk": 2},
    }

    rows = table(found).splitlines()

    assert f"| {breakdown.APPLYING} | 50 |  |" in rows
    assert "| what the medians do not add up to | 50 | 200 |" in rows
    assert "| **the whole write** | **300** | **400** |" in rows


def test_writes_of_which_none_can_be_followed_are_an_error() -> None:
    with pytest.raises(BenchError, match="no write of a client of the leader"):
        figures([("a", WRITE)], "a", notes_of([], []))


def test_every_fixed_point_is_still_there() -> None:
    """The members are wrapped by name: a function that was renamed must be noticed here."""
    script = (
        "from bench import traced_member; from bench.drivers import coordsvc_traced;"
        "traced_member.trace(); coordsvc_traced.trace(coordsvc_traced.Moments())"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
