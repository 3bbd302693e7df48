"""A read stands behind the writes that its client sent before it, also when one of these must wait."""

from __future__ import annotations

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.statemachine.types import Limits
from tests.unit.replica.cluster import Client, Cluster, create, get, kinds


def write_and_read(client: Client, paths: list[str], *, after: int) -> None:
    """Send these creates in one frame, and a read behind the write of sequence `after`."""
    client.frame(
        first_sequence=client.next_sequence,
        writes=data_pb2.WriteBatch(writes=[create(path) for path in paths]),
        reads=[coordination_pb2.Read(id=1, after_sequence=after, get=get(paths[after - 1]))],
    )


def test_a_read_waits_for_a_write_that_waits_for_room() -> None:
    cluster = Cluster("a", limits=Limits(results_per_session=2))
    cluster.elect()
    client = cluster.client("a")
    client.take()
    paths = ["/a", "/b", "/c", "/d"]
    write_and_read(client, paths, after=3)
    assert kinds(client.settled()) == ["w1", "w2"]
    client.frame(acknowledged_sequence=2)
    cluster.tick(2)
    items = client.settled()
    assert kinds(items) == ["w3", "r1", "w4"]
    assert items[1].read.node.path == "/c"
