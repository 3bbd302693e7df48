"""The log's memory: bounded, and right about terms."""

from __future__ import annotations

import random

from coordsvc.raft.types import Entry
from coordsvc.storage.log_tail import LogTail, TermRuns


def entries(first: int, last: int, term: int = 1, size: int = 0) -> list[Entry]:
    return [Entry(index, term, b"x" * size) for index in range(first, last + 1)]


def test_the_tail_drops_the_oldest_when_it_is_full_but_keeps_the_last() -> None:
    tail = LogTail(bytes_max=10_000, first_index=1)

    tail.append(entries(1, 100, size=1000))

    assert tail.entries[-1].index == 100
    assert 0 < len(tail.entries) <= 10
    assert tail.first_index == tail.entries[0].index
    tail.append(entries(101, 101, size=50_000))
    assert [entry.index for entry in tail.entries] == [101]


def test_an_append_replaces_what_is_at_or_after_its_first_entry() -> None:
    tail = LogTail(bytes_max=1 << 20, first_index=1)
    tail.append(entries(1, 10))

    tail.append(entries(4, 5, term=2))

    assert [(entry.index, entry.term) for entry in tail.entries] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]


def test_an_append_before_everything_in_memory_replaces_all_of_it() -> None:
    tail = LogTail(bytes_max=500, first_index=1)
    tail.append(entries(1, 10, size=300))
    assert tail.first_index > 3

    tail.append(entries(3, 3, term=2))

    assert [entry.index for entry in tail.entries] == [3]
    assert tail.first_index == 3


def test_a_trim_beyond_what_is_in_memory_leaves_it_empty_and_in_place() -> None:
    tail = LogTail(bytes_max=1 << 20, first_index=1)
    tail.append(entries(1, 10))

    tail.trim(4)
    assert tail.entries[0].index == tail.first_index == 5
    tail.trim(10)
    assert (tail.entries, tail.first_index) == ([], 11)


def test_terms_agree_with_a_plain_list_through_random_appends_and_trims() -> None:
    dice = random.Random(4)
    for _ in range(200):
        runs = TermRuns(0, 0)
        plain = {0: 0}
        term, last, first = 1, 0, 0
        for _ in range(30):
            if dice.random() < 0.2 and last > first:
                first = dice.randint(first, last)
                runs.trim(first)
                plain = {index: known for index, known in plain.items() if index >= first}
                continue
            at = dice.randint(max(first + 1, last - 3), last + 1)
            term = max(plain[at - 1], term + dice.randint(0, 1))
            added = []
            for index in range(at, at + dice.randint(1, 4)):
                added.append(Entry(index, term))
                term += dice.random() < 0.3
            runs.append(added)
            plain = {index: known for index, known in plain.items() if index < at}
            plain |= {entry.index: entry.term for entry in added}
            last = added[-1].index
        assert {index: runs.at(index) for index in plain} == plain
