"""Who counts: configurations, quorums of members, learners. Raft §6."""

from __future__ import annotations

import pytest

from coordsvc.raft.config import RaftConfig
from coordsvc.raft.membership import ConfigurationError, Membership, validate_configuration
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
