"""Contention: whose turn it is, as a pure decision; what names and values of contenders say."""

from __future__ import annotations

import random

import pytest

from coordclient.recipes.contenders import (
    Behind,
    Crowded,
    Details,
    Obstacle,
    Position,
    behind_all,
    behind_permits,
    behind_writers,
    contender_of,
    may_become_writer,
    new_details,
    new_name_prefix,
    position_of,
    positions_of,
    read_details,
    standing,
)
from coordclient.types import Node, Stat

STEM = "0123456789abcdef" * 2


def queue(text: str) -> list[Position]:
    """Read a queue: `r4 W7 p8*2!` is a reader, a writer, and a contender for two permits that was granted."""
    found = []
    for word in text.split():
        kind = {"r": "read", "W": "write", "L": "lock", "p": "permit"}[word[0]]
        number, _, weight = word[1:].rstrip("!").partition("*")
        found.append(Position(word, int(number), kind, int(weight or 1), word.endswith("!")))
    return found


def split(text: str) -> tuple[Position, list[Position]]:
    """Read a queue in which ours stands in brackets."""
    positions = queue(text.replace("[", "").replace("]", ""))
    names = [word.startswith("[") for word in text.split()]
    mine = positions[names.index(True)]
    return mine, [position for position in positions if position is not mine]


@pytest.mark.parametrize(
    ("text", "obstacle"),
    [
        ("[L5]", None),
        ("[L5] L6 L7", None),
        ("L4 [L5]", Behind("L4")),
        ("L1 L4 L2 [L5] L6", Behind("L4")),
        ("L9999999999 [L10000000000]", Behind("L9999999999")),  # as names, the longer would come first
        ("L2147483647 [L2147483648]", Behind("L2147483647")),
        ("L9223372036854775807 [L9223372036854775808] L9223372036854775809", Behind("L9223372036854775807")),
    ],
)
def test_a_lock_waits_for_the_nearest_before_it(text: str, obstacle: Obstacle | None) -> None:
    mine, others = split(text)
    random.Random(text).shuffle(others)

    assert behind_all(mine, others) == obstacle


@pytest.mark.parametrize(
    ("text", "obstacle"),
    [
        ("r1 [r2] r3", None),
        ("r1 [r2] W3", None),  # a later writer does not hold up an earlier reader
        ("W1 [r2]", Behind("W1")),
        ("W1 r2 [r3]", Behind("W1")),  # all readers behind one writer wake together
        ("W1 r2 W3 r4 [r5]", Behind("W3")),  # the nearest, so that no reader wakes at every writer
        ("r1 [W2]", Behind("r1")),
        ("r1 r2 [W3] r4", Behind("r2")),
        ("r1 W2 [W3]", Behind("W2")),
        ("[W1] r2 W3", None),
        ("L1 [r2]", Behind("L1")),  # a lock at the same path excludes readers too
        ("r1 [r2] W1000", None),
    ],
)
def test_readers_wait_for_writers_and_writers_for_all(text: str, obstacle: Obstacle | None) -> None:
    mine, others = split(text)
    random.Random(text).shuffle(others)

    assert behind_writers(mine, others) == obstacle


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("[r1]", True),
        ("[r1] W2 r3", True),  # r3 waits for W2, and goes on waiting
        ("r1 [r2]", False),
        ("[r1] r2", False),
        ("[r1] r2 W3", False),
        ("[r1] W2 W3", True),
    ],
)
def test_the_only_reader_may_become_the_writer(text: str, may: bool) -> None:
    mine, others = split(text)

    assert may_become_writer(mine, others) is may


@pytest.mark.parametrize(
    ("permits", "text", "obstacle"),
    [
        (1, "[p1]", None),
        (2, "p1! [p2]", None),
        (2, "p1! p2! [p3]", Crowded()),
        (2, "p1! p2! p3 [p4]", Behind("p3")),
        (2, "p1! p2! p3 p4 p5 [p6]", Behind("p5")),
        (2, "p1! p2 [p3]", Behind("p2")),  # p2 has its turn but has not written it down: it will
        (3, "p1*2! [p2*2]", Crowded()),
        (3, "p1*2! p2*2 [p3]", Behind("p2*2")),  # a light one does not overtake a heavy one
        (4, "p1*2! [p2*2]", None),
        (1, "p1! p2! p3! [p4]", Crowded()),  # resized from three to one
        (1, "[p1] p2!", Crowded()),  # resized while p1 had its turn: p2 holds the only one
        (2, "[p1] p2!", None),
        (2, "p1! p3! [p4]", Crowded()),  # whichever of the two goes, p4 must hear of it
    ],
)
def test_permits_are_granted_while_they_last(permits: int, text: str, obstacle: Obstacle | None) -> None:
    mine, others = split(text)
    random.Random(text).shuffle(others)

    assert behind_permits(mine, others, permits) == obstacle


def test_no_release_is_missed_and_permits_are_never_exceeded() -> None:
    """Contenders that look again only when they are told to: in the end each was granted, none overtaken."""
    for seed in range(300):
        dice = random.Random(seed)
        permits = dice.randint(1, 5)
        world = SemaphoreWorld(permits, [dice.randint(1, permits) for _ in range(12)], dice)
        world.run()
        assert world.granted + world.gave_up == 12


class SemaphoreWorld:
    """Contenders of a semaphore as a model: who listens to whom, and who is woken by what."""

    def __init__(self, permits: int, weights: list[int], dice: random.Random) -> None:
        self.permits = permits
        self.dice = dice
        self.queue = {
            f"p{number}": Position(f"p{number}", number, "permit", weight)
            for number, weight in enumerate(weights)
        }
        self.waits_for: dict[str, Obstacle] = {}
        self.to_look = set(self.queue)
        self.granted = 0
        self.gave_up = 0

    def run(self) -> None:
        while self.queue:
            waiting = [position for position in self.queue.values() if not position.is_marked]
            holders = [position for position in self.queue.values() if position.is_marked]
            if self.to_look:
                self.look(self.dice.choice(sorted(self.to_look)))
            elif waiting and self.dice.random() < 0.1:
                self.gave_up += 1
                self.remove(self.dice.choice(waiting))
            else:
                assert holders, "somebody waits for nobody: a wake-up was lost"
                self.remove(self.dice.choice(holders))

    def look(self, name: str) -> None:
        self.to_look.discard(name)
        mine = self.queue[name]
        others = [position for position in self.queue.values() if position is not mine]
        obstacle = behind_permits(mine, others, self.permits)
        if obstacle is not None:
            self.waits_for[name] = obstacle
            return
        for earlier in others:
            if earlier.sequence < mine.sequence and not earlier.is_marked:
                rest = [position for position in self.queue.values() if position is not earlier]
                assert behind_permits(earlier, rest, self.permits) is None, (
                    "whoever came earlier has its turn"
                )
        self.waits_for.pop(name, None)
        self.queue[name] = Position(name, mine.sequence, mine.kind, mine.weight, is_marked=True)
        self.granted += 1
        held = sum(position.weight for position in self.queue.values() if position.is_marked)
        assert held <= self.permits
        self.wake(name, has_gone=False)

    def remove(self, position: Position) -> None:
        del self.queue[position.name]
        self.waits_for.pop(position.name, None)
        self.wake(position.name, has_gone=True)

    def wake(self, name: str, *, has_gone: bool) -> None:
        listeners = [
            waiter
            for waiter, obstacle in self.waits_for.items()
            if obstacle == Behind(name) or (has_gone and obstacle == Crowded())
        ]
        assert len(listeners) <= 2, "no herd: the next in line, and the first who waits"
        self.to_look.update(listeners)


# ---------------------------------------------------------------------------------------------
# Names and values


def test_names_say_the_kind_and_the_number() -> None:
    prefix = new_name_prefix("write")
    position = position_of(f"{prefix}0000000012")

    assert position is not None
    assert (position.kind, position.sequence) == ("write", 12)
    assert new_name_prefix("write") != prefix, "a new name for every attempt"


@pytest.mark.parametrize(
    "name", ["leader", "x-lock-0000000000", f"{STEM}-lock-12x", f"{STEM}-lock-12", f"{STEM}-other-0000000001"]
)
def test_other_names_are_no_contenders(name: str) -> None:
    assert position_of(name) is None
    assert positions_of([name, f"{STEM}-lock-0000000001"]) == [Position(f"{STEM}-lock-0000000001", 1, "lock")]


def test_values_come_back_as_they_were_written() -> None:
    details = Details({"client": "c", "weight": 3}, is_marked=True, revocation="", token=7)

    assert read_details(details.encoded()) == details
    assert details.weight == 3
    assert new_details("me", 2).who["weight"] == 2


@pytest.mark.parametrize("value", [b"", b"\xff", b"[1]", b"7", b'{"weight": "x", "held": 1, "pid": -4}'])
def test_values_that_cannot_be_read_say_nothing(value: bytes) -> None:
    details = read_details(value)

    assert (details.weight, details.is_marked, details.revocation) == (1, False, None)


def node(name: str, details: Details, *, owner: int = 1, czxid: int = 5) -> Node:
    stat = Stat(czxid, 9, 0, 1000, 2000, 1, 0, 0, owner, 0, 0)
    return Node(f"/s/{name}", details.encoded(), stat)


def test_the_grave_of_one_who_only_waited_does_not_count() -> None:
    nodes = [
        node(f"{STEM}-lock-0000000003", Details({})),
        node(f"{STEM}-lock-0000000001", Details({}, is_marked=True), owner=0),
        node(f"{STEM}-lock-0000000002", Details({}), owner=0),
        node("foreign", Details({}), owner=0),
    ]

    assert [position.sequence for position, _ in standing(nodes)] == [1, 3]


def test_contenders_are_described_for_people() -> None:
    details = Details({"client": "c", "host": "h", "pid": 7, "weight": 2}, is_marked=True)
    ((position, its_node),) = standing([node(f"{STEM}-permit-0000000001", details)])
    contender = contender_of(position, its_node, is_holder=True)

    assert (contender.client, contender.host, contender.process_id) == ("c", "h", 7)
    assert (contender.weight, contender.is_holder, contender.kind) == (2, True, "")
    assert contender.token == 9, "of a permit: the transaction that granted it"
    waiting = Position(position.name, 1, "permit")
    assert contender_of(waiting, its_node, is_holder=False).token == 0


def test_a_contender_that_changed_sides_keeps_the_token_that_it_was_given() -> None:
    its_node = node(f"{STEM}-read-0000000001", Details({}, token=3))
    ((position, _),) = standing([its_node])
    contender = contender_of(position, its_node, is_holder=True)

    assert (contender.kind, contender.token) == ("read", 3)
