"""What a follower's clients send goes to the leader: in one frame a pass, in order, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordproto.v1 import log_pb2, peer_pb2
from coordsvc.codec.peer_messages import raft_frame
from coordsvc.raft.messages import Message, MessageType
from coordsvc.replica.settings import ReplicaSettings
from tests.unit.replica.cluster import Client, Cluster, create, kinds

Forwards = list[tuple[str, list[int]]]  # the target, and the first sequence of each command, of each frame


def recorder(forwards: Forwards) -> Callable[[str, str, peer_pb2.PeerFrame], bool]:
    """Note the frames that forward commands, and lose nothing."""

    def note(_source: str, target: str, frame: peer_pb2.PeerFrame) -> bool:
        if frame.WhichOneof("body") == "forward":
            commands = [log_pb2.Command.FromString(command) for command in frame.forward.commands]
            forwards.append((target, [command.session_writes.first_sequence for command in commands]))
        return False

    return note


@pytest.fixture
def trio() -> Cluster:
    cluster = Cluster("a", "b", "c", settings=ReplicaSettings(entry_bytes_max=3_000))
    cluster.elect()
    return cluster


def a_follower(trio: Cluster) -> str:
    return next(name for name in sorted(trio.members) if not trio.replica(name).state.raft.is_leader)


def its_leader(trio: Cluster) -> str:
    leader = trio.replica(a_follower(trio)).state.leader
    assert leader is not None
    return leader


def attached(trio: Cluster) -> Client:
    client = trio.client(a_follower(trio))
    client.take()
    return client


def test_the_commands_of_one_pass_leave_in_one_frame_in_their_order(trio: Cluster) -> None:
    client, forwards = attached(trio), Forwards()
    trio.drop = recorder(forwards)

    for path in ("/a", "/b", "/a/c"):
        client.write(create(path))

    assert kinds(client.settled()) == ["w1", "w2", "w3"]
    assert forwards == [(its_leader(trio), [1, 2, 3])]


def test_a_frame_holds_no_more_than_an_entry(trio: Cluster) -> None:
    client, forwards = attached(trio), Forwards()
    trio.drop = recorder(forwards)

    for number in range(5):
        client.write(create(f"/{number}", b"v" * 1_200))

    assert kinds(client.settled()) == ["w1", "w2", "w3", "w4", "w5"]
    assert [sequences for _, sequences in forwards] == [[1, 2], [3, 4], [5]]


def test_a_command_larger_than_an_entry_travels_alone(trio: Cluster) -> None:
    client, forwards = attached(trio), Forwards()
    trio.drop = recorder(forwards)

    client.write(create("/small"))
    client.write(create("/large", b"v" * 10_000))
    client.write(create("/next"))

    assert kinds(client.settled()) == ["w1", "w2", "w3"]
    assert [sequences for _, sequences in forwards] == [[1], [2], [3]]


def test_what_was_gathered_for_one_leader_goes_to_that_one_and_again_to_the_next(trio: Cluster) -> None:
    client = attached(trio)
    member, before = client.member, its_leader(trio)
    (after,) = set(trio.members) - {member, before}
    replica = trio.replica(member)

    client.write(create("/a"))
    heartbeat = Message(MessageType.HEARTBEAT, after, member, term=replica.state.raft.term + 1)
    replica.receive(after, [peer_pb2.PeerFrame.FromString(raft_frame(heartbeat))])
    replica.take_ready()

    forwards = Forwards()
    note = recorder(forwards)
    for target, frames in replica.take_effects().frames.items():
        for frame in frames:
            note(member, target, peer_pb2.PeerFrame.FromString(frame))
    acknowledgement = 0
    assert forwards == [(before, [1]), (after, [acknowledgement, 1])]
