"""Renewing idle sessions: cheap together, and in time for each."""

from __future__ import annotations

import pytest

from coordsvc.replica.rounds import Rounds
from tests.unit.replica.cluster import Cluster, kinds


@pytest.fixture
def trio() -> Cluster:
    cluster = Cluster("a", "b", "c")
    cluster.elect()
    return cluster


def a_follower(cluster: Cluster) -> str:
    leader = cluster.elect()
    return next(name for name in cluster.members if name != leader)


def test_an_urgent_round_that_is_lost_is_urgent_again() -> None:
    rounds = Rounds(0)
    rounds.gathering.is_urgent = True
    rounds.gathering.touched[1] = None
    assert rounds.wants_start()
    rounds.start(0)
    assert not rounds.wants_start()
    rounds.abandon()
    assert rounds.wants_start()


class TestPings:
    def test_the_pings_of_many_share_one_round_a_tick(self, trio: Cluster) -> None:
        """They cost a confirmation by the leader together, and not one each."""
        member = a_follower(trio)
        clients = [trio.client(member) for _ in range(10)]
        rounds = trio.replica(member)._reads.rounds
        trio.tick()
        before = rounds.number
        for client in clients:
            client.take()
            client.frame(ping=1)
            trio.settle()
        assert rounds.number == before
        trio.tick()
        assert rounds.number == before + 1
        assert [kinds(client.take()) for client in clients] == [["pong"]] * len(clients)

    def test_a_short_session_does_not_wait_for_the_tick_to_be_renewed(self, trio: Cluster) -> None:
        client = trio.client(a_follower(trio), timeout_ms=1_000)
        client.take()
        client.frame(ping=1)
        trio.settle()
        assert kinds(client.take()) == ["pong"]
