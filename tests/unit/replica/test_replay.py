"""A loss of power takes what was not synced, the tree and the commit index: the log is applied once more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordproto.v1 import data_pb2
from tests.stores import MemoryStore
from tests.unit.replica.cluster import Cluster, create, kinds


def lose_power(cluster: Cluster) -> None:
    """All members at once."""
    for name, member in cluster.members.items():
        cluster.kill(name)
        member.store = MemoryStore()
        member.hard_state = replace(member.hard_state, commit=0)
    for name in cluster.members:
        cluster.start(name)
    cluster.elect()


@pytest.mark.parametrize("attached_to", ["a", "b"])
def test_a_session_outlives_the_replay_of_its_opening(attached_to: str) -> None:
    """The member that opened it finds nobody who waits for it; yet its client knows it."""
    cluster = Cluster("a", "b", "c")
    cluster.elect()
    client = cluster.client(attached_to)
    client.write(create("/e", mode=data_pb2.EPHEMERAL))
    client.settled()
    lose_power(cluster)

    client.attach("c")
    assert kinds(client.settled()) == ["attached"]
    client.write(create("/still-here"))
    assert kinds(client.settled()) == ["w2"]
