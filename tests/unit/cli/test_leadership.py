"""`coordctl leader`: who leads, and who shall."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
from click.testing import CliRunner, Result

from coordclient.cli import leader_calls, main
from tests.unit.cli.fake_cluster import Code, FakeCluster, FakeMember, refuse


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    monkeypatch.setattr(leader_calls, "_PAUSE_S", 0.01)
    cluster = FakeCluster("a", "b", "c")
    yield cluster
    cluster.stop()


def coordctl(cluster: FakeCluster, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--endpoints", cluster["b"].address, *arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_leader_is_shown_with_where_it_answers(cluster: FakeCluster) -> None:
    assert done(coordctl(cluster, "leader", "show")).split() == [
        "leader", "a", "endpoint", cluster["a"].address, "term", "3",
    ]  # fmt: skip
    data = json.loads(done(coordctl(cluster, "leader", "show", "-o", "json")))
    assert data == {"leader": "a", "endpoint": cluster["a"].address, "term": 3}


def test_without_a_leader_the_exit_code_says_so(cluster: FakeCluster) -> None:
    cluster.leader = ""
    result = coordctl(cluster, "leader", "show", "--timeout", "50ms")

    assert result.exit_code == 3
    assert result.stdout == ""


@pytest.mark.parametrize(("arguments", "successor"), [(("c",), "c"), ((), "b")])
def test_leadership_is_handed_over(cluster: FakeCluster, arguments: tuple[str, ...], successor: str) -> None:
    text = done(coordctl(cluster, "leader", "transfer", *arguments))

    assert text == f"{successor} leads now, in term 4; it was a\n"
    assert cluster.asked == ["a"]


def test_nothing_is_asked_of_a_member_that_leads_already(cluster: FakeCluster) -> None:
    assert done(coordctl(cluster, "leader", "transfer", "a")) == "a leads already, in term 3\n"
    assert cluster.asked == []


def test_the_outcome_counts_and_not_the_answer(cluster: FakeCluster) -> None:
    def hand_over_and_go(_: FakeMember, context: grpc.ServicerContext) -> None:
        cluster.leader = "c"
        cluster.term += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    cluster.failures = [hand_over_and_go]

    assert done(coordctl(cluster, "leader", "transfer", "c")) == "c leads now, in term 4; it was a\n"
    assert cluster.asked == ["a"]


def test_a_refusal_is_told(cluster: FakeCluster) -> None:
    def refused(_: FakeMember, context: grpc.ServicerContext) -> None:
        refuse(context, Code.INVALID_ARGUMENT, "'x' is not a voting member; choose one of a, b, c")

    cluster.failures = [refused]
    result = coordctl(cluster, "leader", "transfer", "x")

    assert result.exit_code == 1
    assert "choose one of a, b, c" in result.stderr
