"""Attach frames that cannot be right are refused before they cost anything."""

from __future__ import annotations

from coordproto.v1 import data_pb2
from coordsvc.statemachine.sessions import SECRET_BYTES_MAX
from tests.unit.replica.cluster import Client, Cluster


def refusals(cluster: Cluster, session_id: int, secret: bytes) -> list[data_pb2.Error]:
    intruder = Client(cluster, "a")
    intruder.attach("a", session_id=session_id, secret=secret)
    return [item.error for item in intruder.settled()]


def test_a_secret_that_no_session_can_have_does_not_enter_the_log() -> None:
    cluster = Cluster("a")
    cluster.elect()
    owner = cluster.client("a")
    owner.take()
    cluster.settle()
    last_index = cluster.replica("a").state.raft.commit_index

    [refusal] = refusals(cluster, owner.session_id, bytes(SECRET_BYTES_MAX + 1))

    assert refusal.code == data_pb2.SESSION_EXPIRED
    assert cluster.replica("a").state.raft.commit_index == last_index


def test_nobody_learns_from_the_refusal_whether_the_session_exists() -> None:
    cluster = Cluster("a")
    cluster.elect()
    owner = cluster.client("a")
    owner.take()
    wrong = refusals(cluster, owner.session_id, b"wrong")
    too_long = refusals(cluster, owner.session_id, bytes(SECRET_BYTES_MAX + 1))
    [unknown] = refusals(cluster, owner.session_id + 1, b"wrong")

    assert wrong == too_long
    assert wrong[0].message == unknown.message.replace(str(owner.session_id + 1), str(owner.session_id))
