"""Events as they reach a connection: each change of a transaction is told, and where a watch begins."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.replica.cluster import Client, Cluster, create, kinds

RECURSIVE = data_pb2.STREAM_RECURSIVE


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster("a")
    cluster.elect()
    return cluster


def transaction(*operations: data_pb2.TransactionOp) -> data_pb2.Write:
    return data_pb2.Write(transaction=data_pb2.Transaction(success=operations))


def setting(path: str, value: bytes) -> data_pb2.TransactionOp:
    return data_pb2.TransactionOp(set=data_pb2.Set(path=path, value=value))


def creating(path: str) -> data_pb2.TransactionOp:
    return data_pb2.TransactionOp(create=data_pb2.Create(path=path))


def deleting(path: str) -> data_pb2.TransactionOp:
    return data_pb2.TransactionOp(delete=data_pb2.Delete(path=path))


def watched(cluster: Cluster, *, since: int | None = None) -> Client:
    client = cluster.client("a")
    watch = data_pb2.Watch(watch_id=1, path="/a", kind=RECURSIVE, with_values=True, since=since)
    client.read(watch=watch)
    client.settled()
    return client


def test_a_node_that_a_transaction_sets_twice_is_told_twice_the_last_value_last(cluster: Cluster) -> None:
    writer = cluster.client("a")
    writer.write(create("/a"))
    watcher = watched(cluster)
    writer.write(transaction(setting("/a", b"first"), setting("/a", b"second")))
    events = [item.delivery.event for item in watcher.settled()]
    assert [(event.value, event.stat.version) for event in events] == [(b"first", 1), (b"second", 2)]


def test_a_node_that_a_transaction_makes_removes_and_makes_is_told_in_that_order(cluster: Cluster) -> None:
    writer = cluster.client("a")
    watcher = watched(cluster)
    writer.write(transaction(creating("/a"), deleting("/a"), creating("/a")))
    assert kinds(watcher.settled()) == ["CREATED /a @1", "DELETED /a @1", "CREATED /a @1"]


def test_a_replay_tells_each_change_of_a_transaction_too(cluster: Cluster) -> None:
    writer = cluster.client("a")
    writer.write(create("/a"), transaction(setting("/a", b"first"), setting("/a", b"second")))
    cluster.settle()
    watcher = watched(cluster, since=1)
    events = [item.delivery.event for item in watcher.received if item.HasField("delivery")]
    assert [event.value for event in events] == [b"first", b"second"]


def test_the_answer_to_a_new_watch_names_the_state_at_which_it_begins(cluster: Cluster) -> None:
    """Also when it comes late, because another watch of the connection is being replayed."""
    client = cluster.client("a")
    replayed = data_pb2.Watch(watch_id=1, path="/old", since=0)
    live = data_pb2.Watch(watch_id=2, path="/new")
    client.frame(
        first_sequence=1,
        writes=data_pb2.WriteBatch(writes=[create("/old"), create("/new")]),
        reads=[
            coordination_pb2.Read(id=1, after_sequence=1, consistency=data_pb2.SESSION, watch=replayed),
            coordination_pb2.Read(id=2, after_sequence=1, consistency=data_pb2.SESSION, watch=live),
        ],
    )
    answers = [item.read for item in client.settled() if item.HasField("read")]
    began = {answer.id: answer.zxid for answer in answers}[2]
    told = [item.delivery for item in client.received if item.HasField("delivery")]
    assert [delivery.event.zxid for delivery in told if 2 in delivery.watch_ids] == [2]
    assert began == 1


def test_a_one_shot_watch_that_has_fired_is_forgotten_with_its_id(cluster: Cluster) -> None:
    writer = cluster.client("a")
    writer.write(create("/a"))
    client = cluster.client("a")
    for value in (b"1", b"2"):
        client.read(get=data_pb2.Get(path="/a"), watch_id=7)
        client.settled()
        writer.write(data_pb2.Write(set=data_pb2.Set(path="/a", value=value)))
        assert [kind.split()[0] for kind in kinds(client.settled())] == ["CHANGED"]


def test_all_watches_of_a_connection_hear_of_a_change_in_one_item(cluster: Cluster) -> None:
    writer = cluster.client("a")
    writer.write(create("/a"))
    client = cluster.client("a")
    for watch_id in (1, 300, 2):
        client.read(watch=data_pb2.Watch(watch_id=watch_id, path="/a", with_values=True))
    client.settled()
    for value in (b"1", b"2"):
        writer.write(data_pb2.Write(set=data_pb2.Set(path="/a", value=value)))
        (item,) = client.settled()
        assert (list(item.delivery.watch_ids), item.delivery.event.value) == ([1, 300, 2], value)
