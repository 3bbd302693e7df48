"""Clients that read slowly, or not at all: what waits is bounded, and nothing is lost. Promise G10."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.replica.connections import FRAME_BYTES_GOAL, Connection
from coordsvc.replica.settings import ReplicaSettings
from tests.unit.replica.cluster import Client, Cluster, create, get, kinds, set_value

CHANGES = 50
VALUE = bytes(100)
SETTINGS = ReplicaSettings(pause_outgoing_bytes=1_000, outgoing_bytes_max=4_000, catch_up_changes=5)


@pytest.fixture
def alone() -> Cluster:
    cluster = Cluster("a", settings=SETTINGS)
    cluster.elect()
    return cluster


def write_history(cluster: Cluster) -> int:
    """Make many changes of one node; return the zxid before them."""
    writer = cluster.client("a")
    writer.write(create("/n"))
    writer.settled()
    before = cluster.replica("a").state.machine.zxid
    for number in range(CHANGES):
        writer.write(set_value("/n", b"%d" % number + VALUE))
        writer.settled()
    return before


def watch_since(client: Client, since: int) -> None:
    watch = data_pb2.Watch(
        watch_id=1, path="/n", kind=data_pb2.STREAM_RECURSIVE, with_values=True, since=since
    )
    client.read(watch=watch)


def values_of(items: list[coordination_pb2.ServerItem]) -> list[int]:
    deliveries = [item.delivery.event for item in items if item.WhichOneof("item") == "delivery"]
    return [int(event.value.rstrip(b"\0")) for event in deliveries]


def test_a_replay_waits_for_a_client_that_does_not_read(alone: Cluster) -> None:
    """More was missed than may wait for one connection: the replay stops, and the connection stays."""
    before = write_history(alone)
    client = alone.client("a")
    client.take()
    watch_since(client, before)
    alone.tick(20)

    assert client.connection.outgoing_bytes < SETTINGS.outgoing_bytes_max
    assert not alone.replica("a").has_work, "it does not spin while it waits"
    items: list[coordination_pb2.ServerItem] = []
    while taken := client.settled():
        items += taken
    assert values_of(items) == list(range(CHANGES))
    assert kinds(items)[-1] == "r1", "the watch is confirmed behind what it had missed"


def test_a_replay_that_waits_goes_on_with_what_comes_meanwhile(alone: Cluster) -> None:
    before = write_history(alone)
    client, writer = alone.client("a"), alone.client("a")
    client.take()
    watch_since(client, before)
    alone.tick(2)
    writer.write(set_value("/n", b"%d" % CHANGES))
    reading = client.read(get=get("/n"))
    alone.tick(2)
    items: list[coordination_pb2.ServerItem] = []
    while taken := client.settled():
        items += taken

    assert values_of(items) == list(range(CHANGES + 1))
    assert kinds(items)[-1] == f"r{reading}", "the answer stands behind the events before it"


def test_a_replay_ends_quietly_when_its_waiting_client_goes_away(alone: Cluster) -> None:
    before = write_history(alone)
    client = alone.client("a")
    client.take()
    watch_since(client, before)
    alone.tick(2)
    client.hang_up()
    alone.replica("a").taken(client.connection)
    alone.tick(2)

    assert not alone.replica("a").has_work
    assert not alone.replica("a").state.catching_up


def test_one_frame_does_not_carry_more_than_a_client_must_accept() -> None:
    connection = Connection(1)
    items = [bytes([number]) * 300_000 for number in range(10)]
    for item in items:
        connection.push(item)
    frames = []
    while frame := connection.take():
        frames.append(frame)

    assert [item for frame in frames for item in frame] == items
    assert all(sum(map(len, frame)) <= FRAME_BYTES_GOAL for frame in frames)
    assert connection.outgoing_bytes == 0


def test_an_item_larger_than_a_frame_should_be_goes_alone() -> None:
    connection = Connection(1)
    small, large = b"s", bytes(2 * FRAME_BYTES_GOAL)
    for item in (small, large, small):
        connection.push(item)

    assert [connection.take() for _ in range(3)] == [[small], [large], [small]]
    assert connection.outgoing_bytes == 0
