"""The state machine against an obviously right model: every answer, every change, every node, at every step.

Twice: Hypothesis looks for odd sequences and makes them short; plain dice go on for longer.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
    Write,
)
from tests.properties.lockstep import Lockstep

# A small universe, so that everything collides with everything.
PATHS = ["/a", "/b", "/a!", "/a/a", "/a/b", "/b/a", "/a!/a", "/a/a/a"]
ODD_PATHS = ["/", "", "a", "/a/", "//", "/a//b", "/a/../b", "/a\0", "/\x01", "b/a"]

paths = st.integers(0, 15).flatmap(lambda dice: st.sampled_from(ODD_PATHS if dice == 15 else PATHS))
values = st.sampled_from([b"", b"x", b"yy", b"\0" * 40])
versions = st.sampled_from([-1, -1, -1, -1, 0, 1, -2])


@st.composite
def creates(draw: st.DrawFn) -> Create:
    """Draw any create, but mostly one whose TTL fits its mode."""
    mode = draw(st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5, 6, 7]))
    ttl_ms = draw(st.sampled_from([5, 300] if mode in (5, 6) else [0, 0, 5, 300] if mode in (1, 3) else [0]))
    if draw(st.integers(0, 9)) == 9:
        ttl_ms = draw(st.sampled_from([0, 5, -1]))
    return Create(draw(paths), draw(values), mode, ttl_ms, draw(st.booleans()))


sets = st.builds(Set, paths, values, versions)
deletes = st.builds(Delete, paths, versions, st.booleans())
zxid_guesses = st.integers(0, 12)
checks = st.builds(Check, paths, versions, st.none() | zxid_guesses, st.booleans())
reads = st.builds(Get, paths) | st.builds(Exists, paths)
lists = st.builds(
    ListChildren, paths, st.sampled_from(["", "a", "a!", "b"]), st.integers(0, 3), st.booleans()
)
compares = st.builds(Compare, paths, st.integers(0, 8), st.integers(0, 3), st.integers(-1, 4), values)
operations: st.SearchStrategy[TransactionOp] = creates() | sets | deletes | checks | reads | lists
branches = st.lists(operations, max_size=5)
transactions = st.builds(Transaction, st.lists(compares, max_size=2), branches, branches)
guards = st.integers(0, 7).flatmap(
    lambda dice: st.lists(st.builds(Guard, paths, zxid_guesses), max_size=2 if dice == 7 else 0)
)
writes = st.builds(Write, creates() | sets | deletes | transactions, guards)


class TreeAgainstModel(RuleBasedStateMachine):
    """Each rule is one command."""

    @initialize(there=st.lists(st.sampled_from(PATHS), max_size=8))
    def start(self, there: list[str]) -> None:
        self.trees = Lockstep()
        self.trees.open_session()
        for path in there:
            self.trees.write(0, 0, Write(Create(path, parents=True)))

    @rule(passed_ms=st.sampled_from([0, -50, 1, 10, 400_000]), restarts_other=st.booleans())
    def commit(self, passed_ms: int, *, restarts_other: bool) -> None:
        self.trees.commit(passed_ms, restarts_other=restarts_other)

    @rule(pick=st.integers(0, 5), operation=creates() | sets | deletes, guards=guards)
    def write(self, pick: int, operation: Create | Set | Delete, guards: list[Guard]) -> None:
        session = self.trees.session_number(pick)
        self.trees.write(session, self.trees.next_sequence(session), Write(operation, guards))

    @rule(pick=st.integers(0, 5), transaction=transactions)
    def transact(self, pick: int, transaction: Transaction) -> None:
        session = self.trees.session_number(pick)
        self.trees.write(session, self.trees.next_sequence(session), Write(transaction))

    @rule(pick=st.integers(0, 5), ahead=st.sampled_from([-1, -2, -3, 1, 2]), create=creates())
    def write_out_of_turn(self, pick: int, ahead: int, create: Create) -> None:
        session = self.trees.session_number(pick)
        if session:
            self.trees.write(session, self.trees.next_sequence(session) + ahead, Write(create))

    @rule(session=st.sampled_from([98, -1]))
    def write_of_a_stranger(self, session: int) -> None:
        self.trees.write(session, 1, Write(Create("/stranger")))

    @rule()
    def open_session(self) -> None:
        self.trees.open_session()

    @rule(pick=st.integers(0, 5), expired=st.booleans())
    def end_session(self, pick: int, *, expired: bool) -> None:
        self.trees.end_session(self.trees.session_number(pick), expired=expired)

    @rule(pick=st.integers(0, 5), ahead=st.integers(-3, 1))
    def acknowledge(self, pick: int, ahead: int) -> None:
        session = self.trees.session_number(pick)
        self.trees.acknowledge(session, self.trees.next_sequence(session) + ahead)

    @rule(paths=st.lists(st.sampled_from(PATHS), max_size=4))
    def reap(self, paths: list[str]) -> None:
        self.trees.reap(paths)

    @rule(since=st.integers(-1, 30), limit=st.integers(0, 4))
    def read_history(self, since: int, limit: int) -> None:
        self.trees.read_history(since, limit)

    @rule(request=lists)
    def list_children(self, request: ListChildren) -> None:
        self.trees.list_children(request)

    @invariant()
    def nothing_differs(self) -> None:
        self.trees.compare_everything()

    def teardown(self) -> None:
        if hasattr(self, "trees"):
            self.trees.finish()


TestTreeAgainstModel = TreeAgainstModel.TestCase
TestTreeAgainstModel.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


# -- dice ---------------------------------------------------------------------------------------


def dice_path(dice: Random) -> str:
    return dice.choice(ODD_PATHS) if dice.random() < 0.03 else dice.choice(PATHS)


def dice_operation(dice: Random) -> Create | Set | Delete:
    path, chance = dice_path(dice), dice.random()
    version = dice.choice([-1, -1, -1, 0, 1])
    value = dice.choice([b"", b"x", b"yy"])
    if chance < 0.3:
        return Set(path, value, version)
    if chance < 0.45:
        return Delete(path, version, recursive=dice.random() < 0.4)
    mode = dice.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    ttl_ms = 0
    if mode in (5, 6) or (mode in (1, 3) and dice.random() < 0.5):
        ttl_ms = dice.choice([5, 300])
    return Create(path, value, mode, ttl_ms, dice.random() < 0.5)


def dice_write(dice: Random) -> Write:
    guards = [Guard(dice_path(dice), dice.randrange(9))] if dice.random() < 0.05 else []
    if dice.random() < 0.7:
        return Write(dice_operation(dice), guards)
    branches: list[list[TransactionOp]] = [[], []]
    for branch in branches:
        for _ in range(dice.choice([1, 2, 2, 3])):
            branch.append(dice.choice([dice_operation(dice), dice_operation(dice), dice_look(dice)]))
    numbers = dice.randrange(9), dice.randrange(4), dice.randrange(-1, 4)
    compares = [Compare(dice_path(dice), *numbers, b"x")] if dice.random() < 0.5 else []
    return Write(Transaction(compares, *branches), guards)


def dice_look(dice: Random) -> TransactionOp:
    path = dice_path(dice)
    looks: list[TransactionOp] = [
        Check(path, dice.choice([-1, 0, 1]), dice.choice([None, 3]), absent=dice.random() < 0.3),
        Get(path),
        Exists(path),
        ListChildren(path, dice.choice(["", "a"]), dice.randrange(3), with_nodes=dice.random() < 0.5),
    ]
    return dice.choice(looks)


@pytest.mark.parametrize("seed", range(8))
def test_dice_find_no_difference(seed: int) -> None:
    dice = Random(seed)
    trees = Lockstep()
    for _ in range(400):
        session = trees.session_number(dice.randrange(9))
        sequence = trees.next_sequence(session)
        chance = dice.random()
        if chance < 0.75:
            trees.write(session, sequence, dice_write(dice))
        elif chance < 0.8:
            trees.write(session, sequence - dice.randrange(1, 4) if session else 0, dice_write(dice))
        elif chance < 0.83:
            trees.open_session()
        elif chance < 0.84:
            trees.end_session(session, expired=dice.random() < 0.7)
        elif chance < 0.88:
            trees.acknowledge(session, sequence - dice.randrange(3))
        elif chance < 0.91:
            trees.reap(dice.sample(PATHS, 3))
        elif chance < 0.93:
            trees.read_history(dice.randrange(trees.model.zxid + 1), dice.randrange(9))
        else:
            trees.commit(dice.choice([0, 1, 10, 400_000]), restarts_other=dice.random() < 0.3)
        trees.compare_everything()
    trees.finish()
