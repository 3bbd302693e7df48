"""The queue of reads by itself: numbers, and what they confirm."""

from __future__ import annotations

from coordsvc.raft.config import RaftConfig
from coordsvc.raft.membership import Membership
from coordsvc.raft.read_queue import ReadQueue, ReadRequest
from coordsvc.raft.types import Configuration

MEMBERS = Membership(RaftConfig("a"), Configuration(("a", "b", "c", "d", "e")))


def test_a_read_needs_a_majority_with_the_leader() -> None:
    queue = ReadQueue()
    queue.add(ReadRequest("a", 1, 10))
    assert queue.confirm(MEMBERS, "a", "b", 1) == []
    assert queue.confirm(MEMBERS, "a", "b", 1) == [], "the same voter twice is one voter"
    assert queue.confirm(MEMBERS, "a", "c", 1) == [ReadRequest("a", 1, 10)]
    assert len(queue) == 0


def test_numbers_go_on_after_reads_are_confirmed() -> None:
    queue = ReadQueue()
    queue.add(ReadRequest("a", 1, 10))
    queue.confirm(MEMBERS, "a", "b", 1)
    queue.confirm(MEMBERS, "a", "c", 1)
    queue.add(ReadRequest("a", 2, 11))
    assert queue.newest() == 2


def test_voters_at_different_numbers_confirm_what_they_agree_on() -> None:
    queue = ReadQueue()
    for context in (1, 2, 3):
        queue.add(ReadRequest("a", context, 10))
    queue.confirm(MEMBERS, "a", "b", 3)
    assert [read.context for read in queue.confirm(MEMBERS, "a", "c", 2)] == [1, 2]
    assert [read.context for read in queue.confirm(MEMBERS, "a", "d", 3)] == [3]
