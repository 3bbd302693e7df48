"""Who counts: configurations, quorums of members, learners. Raft §6."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from coordsvc.raft.config import RaftConfig
from coordsvc.raft.invariants import quorums_meet
from coordsvc.raft.membership import (
    ConfigurationError,
    Membership,
    is_joint,
    is_successor,
    leave,
    plan,
    validate_configuration,
)
from coordsvc.raft.quorum import VoteResult
from coordsvc.raft.types import Configuration


def members(configuration: Configuration, node: str = "a") -> Membership:
    return Membership(RaftConfig(node), configuration)


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(()),
        Configuration(("b", "a")),
        Configuration(("a", "a")),
        Configuration(("", "a")),
        Configuration(("a",), learners=("a",)),
        Configuration(("a",), voters_outgoing=("b",), learners=("b",)),
        Configuration(("a",), learners_next=("b",)),
        Configuration(("a",), auto_leave=True),
        Configuration(("a", "b"), voters_outgoing=("b", "c"), learners_next=("b",)),
    ],
)
def test_configurations_that_no_cluster_can_have_are_refused(configuration: Configuration) -> None:
    with pytest.raises(ConfigurationError):
        validate_configuration(configuration)


def test_a_joint_configuration_with_a_voter_to_be_demoted_is_sound() -> None:
    validate_configuration(
        Configuration(("a", "b"), voters_outgoing=("a", "c"), learners=("d",), learners_next=("c",))
    )


def test_there_is_one_progress_for_each_member_and_for_nobody_else() -> None:
    one = members(Configuration(("a", "b"), voters_outgoing=("a", "c"), learners=("d",)))

    assert sorted(one.progress) == ["a", "b", "c", "d"]
    assert [progress.node for progress in one.followers] == ["b", "c", "d"]
    assert one.own is one.progress["a"]
    assert [name for name, progress in one.progress.items() if progress.is_learner] == ["d"]
    assert one.electorate == ("a", "b", "c")


def test_learners_do_not_count() -> None:
    one = members(Configuration(("a", "b", "c"), learners=("d", "e")))
    for node, match in {"a": 9, "b": 2, "c": 3, "d": 9, "e": 9}.items():
        one.progress[node].match = match

    assert one.agreed_index() == 3
    assert one.tally({"a": True, "d": True, "e": True}) is VoteResult.PENDING
    assert one.agreed_count({"a": 9, "d": 9, "e": 9}) == 0


def test_both_halves_of_a_joint_configuration_count() -> None:
    one = members(Configuration(("a", "b", "c"), voters_outgoing=("a", "d", "e")))
    for node, match in {"a": 9, "b": 9, "c": 9, "d": 1, "e": 4}.items():
        one.progress[node].match = match

    assert one.agreed_index() == 4
    assert one.tally({"a": True, "b": True, "c": True}) is VoteResult.PENDING
    assert one.tally({"a": True, "b": True, "e": True}) is VoteResult.WON
    assert one.tally({"d": False, "e": False}) is VoteResult.LOST


def test_a_sole_voter_is_alone_in_both_halves() -> None:
    assert members(Configuration(("a",), learners=("b",))).is_sole_voter()
    assert not members(Configuration(("a",), voters_outgoing=("b",))).is_sole_voter()
    assert not members(Configuration(("b",))).is_sole_voter()


def test_a_quorum_is_active_only_if_it_was_heard_since_the_last_look() -> None:
    one = members(Configuration(("a", "b", "c"), learners=("d",)))
    one.progress["b"].recent_active = True
    assert one.quorum_is_active()

    one.progress["d"].recent_active = True
    assert not one.quorum_is_active(), "b was not heard again, and a learner does not count"


def test_switching_keeps_what_is_known_of_those_who_stay() -> None:
    one = members(Configuration(("a", "b"), learners=("c",)))
    one.progress["b"].match = 7
    one.progress["b"].recent_active = True

    one.switch(Configuration(("a", "c"), learners=("b", "d")), next_index=10)

    assert {name: progress.match for name, progress in one.progress.items()} == {
        "a": 0,
        "b": 7,
        "c": 0,
        "d": 0,
    }
    assert {name for name, progress in one.progress.items() if progress.is_learner} == {"b", "d"}
    assert one.progress["d"].next == 10
    assert one.own is one.progress["a"]


def test_a_new_voter_counts_as_heard_from_and_a_new_learner_does_not() -> None:
    one = members(Configuration(("a",), learners=("b",)))

    one.switch(Configuration(("a", "b", "c"), learners=("d",)), next_index=1)

    assert {name: progress.recent_active for name, progress in one.progress.items()} == {
        "a": True,
        "b": True,
        "c": True,
        "d": False,
    }


def test_one_that_is_no_member_yet_has_no_members() -> None:
    one = members(Configuration(()))
    assert (one.electorate, one.followers, one.own, one.own_counts) == ((), [], None, False)


ABC = Configuration(("a", "b", "c"), learners=("d",))


class TestPlan:
    @pytest.mark.parametrize(
        ("voters", "learners", "planned"),
        [
            ("abc", "d", ABC),  # nothing changes
            ("abc", "de", Configuration(("a", "b", "c"), learners=("d", "e"))),
            ("abc", "", Configuration(("a", "b", "c"))),
            ("abcd", "", Configuration(("a", "b", "c", "d"))),  # promoted
            ("ab", "d", Configuration(("a", "b"), learners=("d",))),  # removed
            ("ab", "cd", Configuration(("a", "b"), learners=("c", "d"))),  # demoted
            (
                "abd",
                "",
                Configuration(("a", "b", "d"), voters_outgoing=("a", "b", "c")),
            ),
            (
                "ae",
                "bd",
                Configuration(
                    ("a", "e"), voters_outgoing=("a", "b", "c"), learners=("d",), learners_next=("b",)
                ),
            ),
        ],
    )
    def test_one_voter_at_a_time_is_simple_and_all_else_is_joint(
        self, voters: str, learners: str, planned: Configuration
    ) -> None:
        configuration = plan(ABC, set(voters), set(learners))
        assert configuration == planned
        assert is_successor(ABC, configuration) == ""

    def test_what_is_planned_and_left_ends_where_it_should(self) -> None:
        joint = plan(ABC, {"d", "e"}, {"a", "f"})
        assert leave(joint) == Configuration(("d", "e"), learners=("a", "f"))
        assert is_successor(joint, leave(joint)) == ""

    def test_there_must_be_a_voter_left(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one voter"):
            plan(ABC, set(), {"a"})

    def test_nobody_is_voter_and_learner(self) -> None:
        with pytest.raises(ConfigurationError, match="voter and learner"):
            plan(ABC, {"a", "b"}, {"a"})

    def test_there_is_no_second_plan_in_a_joint_configuration(self) -> None:
        """etcd: entering a joint configuration twice."""
        with pytest.raises(ConfigurationError, match="under way"):
            plan(plan(ABC, {"x", "y"}, set()), {"a"}, set())

    def test_only_a_joint_configuration_can_be_left(self) -> None:
        """etcd: leaving while not joint."""
        with pytest.raises(ConfigurationError, match="only a joint"):
            leave(ABC)


JOINT = Configuration(("a", "d"), voters_outgoing=("a", "b", "c"), learners=("e",), learners_next=("b",))


@pytest.mark.parametrize(
    ("current", "following", "why_not"),
    [
        (ABC, Configuration(("a", "d")), "more than one voter"),
        (ABC, Configuration(("d",), learners=("a",)), "more than one voter"),
        (ABC, Configuration(("a", "b", "d")), "more than one voter"),
        (ABC, Configuration(("a",), voters_outgoing=("a", "b")), "those in force"),
        (JOINT, JOINT, "can only be left"),
        (JOINT, Configuration(("a", "d"), learners=("e",)), "can only be left"),
        (JOINT, Configuration(("a", "b", "d"), learners=("e",)), "can only be left"),
        (JOINT, Configuration(("a",), voters_outgoing=("a", "d")), "can only be left"),
        (JOINT, Configuration(("d",), voters_outgoing=("a", "b", "c")), "can only be left"),
        (ABC, Configuration(("d",), voters_outgoing=("a", "b", "c"), auto_leave=True), "of its own"),
        (Configuration(()), Configuration(("a",)), "does not know"),
    ],
)
def test_what_must_not_come_next(current: Configuration, following: Configuration, why_not: str) -> None:
    assert why_not in is_successor(current, following)


def test_every_legal_step_keeps_quorums_together_and_every_plan_is_legal() -> None:
    """G10 by trial of all memberships of four, against the definition."""
    memberships = [
        (set(voters), {node for node in "abcd" if node not in voters and node in learners})
        for size in range(1, 5)
        for voters in combinations("abcd", size)
        for learners in ("", "ab", "bcd")
    ]
    for before, after in product(memberships, memberships):
        current = Configuration(tuple(sorted(before[0])), learners=tuple(sorted(before[1])))
        first = plan(current, after[0], after[1])
        assert is_successor(current, first) == ""
        assert quorums_meet(current, first)
        if is_joint(first):
            last = leave(first)
            assert quorums_meet(first, last)
        else:
            last = first
        assert (set(last.voters), set(last.learners)) == after
