"""`coordctl status`: what it makes of the members' answers, in words and as exit code."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from coordclient.cli import cluster, main
from coordclient.cli.service_calls import EndpointStatus
from coordproto.v1 import coordination_pb2 as api

NAMES = ("a", "b", "c")
ENDPOINTS = {"a": "h:1", "b": "h:2", "c": "h:3"}

Ask = Callable[[list[str], float], list[EndpointStatus]]


def reply(name: str, *, leader: str = "a", term: int = 3, cluster_id: str = "x") -> api.StatusResponse:
    members = [api.MemberStatus(name=other, client_address=ENDPOINTS[other]) for other in NAMES]
    role = "leader" if leader == name else "follower"
    return api.StatusResponse(
        cluster_id=cluster_id, member=name, role=role, leader=leader, term=term, members=members
    )


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, api.StatusResponse]:
    """What each endpoint answers; one that is not there does not answer."""
    found: dict[str, api.StatusResponse] = {}

    def ask(endpoints: list[str], timeout_s: float) -> list[EndpointStatus]:
        return [
            EndpointStatus(one, found.get(one), "" if one in found else "unreachable") for one in endpoints
        ]

    monkeypatch.setattr(cluster, "ask_status", ask)
    return found


def test_members_that_were_not_named_are_asked_too(answers: dict[str, api.StatusResponse]) -> None:
    answers.update({ENDPOINTS[name]: reply(name) for name in NAMES})

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:2"])

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[1:4]] == ["b", "*", "c"]
    assert "healthy: a leads, 3 of 3 answer; 1 more may fail" in result.output


def test_a_member_that_does_not_answer_degrades_the_cluster(answers: dict[str, api.StatusResponse]) -> None:
    answers.update({ENDPOINTS[name]: reply(name) for name in ("a", "b")})

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:1,h:2,h:3"])

    assert result.exit_code == 1
    assert "degraded: a leads, 2 of 3 members answer; no other may fail" in result.output
    assert "!  c       h:3       unreachable" in result.output


def test_a_member_whose_address_nobody_knows_is_listed(answers: dict[str, api.StatusResponse]) -> None:
    answers["h:1"] = reply("a")
    answers["h:1"].members[2].client_address = ""
    answers["h:2"] = reply("b")
    answers["h:2"].members[2].client_address = ""

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:1"])

    assert "!  c       ?         never seen" in result.output


def test_a_former_member_among_the_endpoints_does_not_degrade_the_cluster(
    answers: dict[str, api.StatusResponse],
) -> None:
    answers.update({ENDPOINTS[name]: reply(name) for name in NAMES})

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:1,h:9"])

    assert result.exit_code == 0
    assert "!  ?       h:9       unreachable" in result.output
    assert "healthy: a leads, 3 of 3 answer" in result.output


def test_a_learner_is_no_voter_that_may_fail(answers: dict[str, api.StatusResponse]) -> None:
    answers.update({ENDPOINTS[name]: reply(name) for name in NAMES})
    for answer in answers.values():
        answer.members[2].learner = True

    both = CliRunner().invoke(main, ["status", "--endpoints", "h:1"])
    del answers[ENDPOINTS["c"]]
    without_learner = CliRunner().invoke(main, ["status", "--endpoints", "h:1"])

    assert "healthy: a leads, 2 of 2 answer; none may fail\n" in both.output
    assert "2 of 2 answer; none may fail; learner c does not answer" in without_learner.output
    assert (both.exit_code, without_learner.exit_code) == (0, 1)


def test_without_a_leader_it_says_what_is_missing(answers: dict[str, api.StatusResponse]) -> None:
    answers["h:3"] = reply("c", leader="")

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:3"])

    assert result.exit_code == 3
    assert "no leader: a majority of the 3 members must run" in result.output


def test_nobody_answers(answers: dict[str, api.StatusResponse]) -> None:
    result = CliRunner().invoke(main, ["status", "--endpoints", "h:9"])

    assert result.exit_code == 3
    assert "no member answers" in result.output


def test_the_leader_of_the_highest_term_counts(answers: dict[str, api.StatusResponse]) -> None:
    answers["h:1"] = reply("a", leader="a", term=3)  # cut off, and not aware of it yet
    answers["h:2"] = answers["h:3"] = reply("b", leader="b", term=4)

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:1,h:2,h:3", "-o", "json"])

    assert json.loads(result.output)["leader"] == "b"


def test_members_of_two_clusters_are_told_apart(answers: dict[str, api.StatusResponse]) -> None:
    answers["h:1"] = reply("a")
    answers["h:2"] = reply("b", cluster_id="y")

    result = CliRunner().invoke(main, ["status", "--endpoints", "h:1,h:2"])

    assert "members of 2 different clusters" in result.output
