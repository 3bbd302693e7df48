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


def test_switching_forgets_what_was_known() -> None:
    one = members(Configuration(("a", "b")))
    one.progress["b"].match = 7

    one.switch(Configuration(("a", "b", "c")), next_index=10)

    assert {progress.match for progress in one.progress.values()} == {0}
    assert {progress.next for progress in one.progress.values()} == {10}
