"""An operator ends a session: at any member, through the log, and as if it had expired."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2, peer_pb2
from coordsvc.replica.connections import Connection
from coordsvc.statemachine.results import Node
from tests.unit.replica.cluster import Client, Cluster, create, kinds


@pytest.fixture
def trio() -> Cluster:
    cluster = Cluster("a", "b", "c")
    cluster.elect()
    return cluster


def expire(cluster: Cluster, member: str, session_id: int) -> Connection:
    """Let an operator ask this member; return the connection of the call."""
    replica = cluster.replica(member)
    call = replica.open_call()
    replica.expire_session(call, session_id)
    return call


def answers(call: Connection) -> list[str]:
    return kinds([coordination_pb2.ServerItem.FromString(item) for item in call.take()])


def owner_of(trio: Cluster, member: str) -> Client:
    client = trio.client(member)
    client.take()
    client.write(create("/held", b"who", mode=data_pb2.EPHEMERAL, ttl_ms=60_000))
    client.write(create("/plain", mode=data_pb2.EPHEMERAL))
    assert kinds(client.settled()) == ["w1", "w2"]
    return client


@pytest.mark.parametrize("asked", ["a", "b", "c"])
def test_any_member_takes_the_order_and_all_do_it(trio: Cluster, asked: str) -> None:
    client = owner_of(trio, "b")
    call = expire(trio, asked, client.session_id)
    trio.settle()
    assert answers(call) == ["closed"]
    assert kinds(client.take()) == ["error SESSION_EXPIRED"]
    trio.tick(10)
    assert len(trio.digests()) == 1
    for member in trio.up():
        machine = member.replica.state.machine
        assert machine.sessions == {}
        grave = machine.get("/held")
        assert isinstance(grave, Node)
        assert (grave.value, grave.stat.ephemeral_owner) == (b"who", 0)
        assert not isinstance(machine.get("/plain"), Node)


def test_an_order_that_is_lost_on_its_way_to_the_leader_is_sent_again(trio: Cluster) -> None:
    client = owner_of(trio, "b")
    leader = trio.elect()
    asked = next(member.name for member in trio.up() if member.name != leader)
    lost = [True]

    def lose_the_first(_source: str, _target: str, frame: peer_pb2.PeerFrame) -> bool:
        return frame.WhichOneof("body") == "forward" and bool(lost) and lost.pop()

    trio.drop = lose_the_first
    call = expire(trio, asked, client.session_id)
    trio.tick(40)
    assert not lost
    assert answers(call) == ["closed"]


def test_a_client_that_is_cut_off_hears_of_it_when_it_comes_back(trio: Cluster) -> None:
    client = owner_of(trio, "b")
    client.hang_up()
    expire(trio, "a", client.session_id)
    trio.settle()
    client.attach("c")
    assert kinds(client.settled()) == ["error SESSION_EXPIRED"]
