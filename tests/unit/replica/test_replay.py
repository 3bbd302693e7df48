"""What was on disk and is not any more: after a loss of power, and after an older copy was put in its place.

A loss of power takes the tree and the commit index, which are not synced: the log is applied once more.
"""

from __future__ import annotations

from copy import deepcopy
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


def test_a_member_whose_disk_is_an_older_copy_stops() -> None:
    """Its leader still knows what it acknowledged. To go on would be to forget a vote or a write."""
    cluster = Cluster("a", "b", "c")
    leader = cluster.elect()
    victim = cluster.members["b" if leader == "a" else "a"]
    client = cluster.client(leader)
    older = deepcopy((victim.log, victim.hard_state, victim.store))
    for number in range(5):
        client.write(create(f"/{number}"))
        client.settled()
    cluster.tick()
    cluster.kill(victim.name)
    victim.log, victim.hard_state, victim.store = older
    cluster.replica(leader).peer_down(victim.name)
    cluster.start(victim.name)
    with pytest.raises(AssertionError, match=r"has acknowledged entry .* and its log has lost it"):
        cluster.tick(30)
