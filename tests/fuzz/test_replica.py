"""A whole replica against messages that nobody should send: refused, and it goes on. Issue 3, item 7."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError, Message

from coordproto.v1 import coordination_pb2, data_pb2, log_pb2, peer_pb2
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from tests.fuzz.hostile_bytes import absurd_message, mutated, rounds
from tests.stores import MemoryStore
from tests.unit.replica.cluster import Cluster, create, kinds

CLIENT_ROUNDS = 400
PEER_ROUNDS = 400
TREE_ROUNDS = 300
COMMAND_ROUNDS = 40


def client_frame(dice: random.Random, corpus: list[bytes]) -> coordination_pb2.ClientFrame | None:
    """An absurd frame, or a mutated good one; None if that is no frame any more."""
    if dice.random() < 0.6:
        frame: Message = absurd_message(dice, coordination_pb2.ClientFrame)
        assert isinstance(frame, coordination_pb2.ClientFrame)
        if dice.random() < 0.5:
            frame.ClearField("attach")
            frame.first_sequence = dice.randrange(4)
        return frame
    try:
        return coordination_pb2.ClientFrame.FromString(mutated(dice, dice.choice(corpus), corpus))
    except DecodeError:
        return None


def good_client_frames() -> list[bytes]:
    writes = data_pb2.WriteBatch(writes=[create("/a"), create("/b", b"value")])
    reads = [
        coordination_pb2.Read(id=1, get=data_pb2.Get(path="/a")),
        coordination_pb2.Read(
            id=2, watch=data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE)
        ),
        coordination_pb2.Read(id=3, list_children=data_pb2.ListChildren(path="/", with_nodes=True)),
    ]
    transaction = data_pb2.Transaction(
        compares=[data_pb2.Compare(path="/a")],
        success=[data_pb2.TransactionOp(delete=data_pb2.Delete(path="/a"))],
        failure=[data_pb2.TransactionOp(create=data_pb2.Create(path="/a"))],
    )
    frames = [
        coordination_pb2.ClientFrame(first_sequence=1, writes=writes),
        coordination_pb2.ClientFrame(reads=reads),
        coordination_pb2.ClientFrame(
            first_sequence=1, writes=data_pb2.WriteBatch(writes=[data_pb2.Write(transaction=transaction)])
        ),
        coordination_pb2.ClientFrame(ping=1, cancelled_watches=[1]),
        coordination_pb2.ClientFrame(close=True),
    ]
    return [frame.SerializeToString() for frame in frames]


def test_clients_that_send_nonsense_disturb_nobody() -> None:
    corpus = good_client_frames()
    cluster = Cluster("a", "b")
    cluster.elect()
    bystander = cluster.client("a")
    for number, dice in enumerate(rounds(21, CLIENT_ROUNDS), start=1):
        attach = absurd_message(dice, coordination_pb2.Attach)
        attached_to = dice.choice("ab")
        hostile = cluster.client(attached_to)
        replica = cluster.replica(attached_to)
        if dice.random() < 0.2:
            assert isinstance(attach, coordination_pb2.Attach)
            replica.open_connection(attach, b"secret of 16 byt")
        for _ in range(dice.randint(1, 4)):
            frame = client_frame(dice, corpus)
            if frame is not None:
                replica.client_frame(hostile.connection, frame)
            if dice.random() < 0.5:
                cluster.settle()
        cluster.settle()
        hostile.take()
        hostile.hang_up()
        if number % 20 == 0:
            cluster.tick()
            bystander.write(create(f"/bystander-{number}"))
            assert f"w{bystander.next_sequence - 1}" in kinds(bystander.settled())
    cluster.tick()
    assert len(cluster.digests()) == 1, "the members have applied the same and hold the same"
    for member in cluster.members.values():
        member.replica.state.machine.verify()


def good_peer_frames() -> list[bytes]:
    """What a cluster of three says while it elects, writes, reads and expires."""
    cluster = Cluster("a", "b", "c")
    recorded: list[bytes] = []

    def record(_source: str, _target: str, frame: peer_pb2.PeerFrame) -> bool:
        recorded.append(frame.SerializeToString())
        return False

    cluster.drop = record
    cluster.elect()
    client = cluster.client("b", timeout_ms=1_000)
    client.write(create("/a", mode=data_pb2.EPHEMERAL), create("/b"))
    client.read(get=data_pb2.Get(path="/a"))
    cluster.settle()
    cluster.tick(30)
    kept = {peer_pb2.PeerFrame.FromString(frame).WhichOneof("body") for frame in recorded}
    assert {"raft", "forward", "confirm_request", "confirm_response"} <= kept
    return recorded


def peer_frame(dice: random.Random, corpus: list[bytes]) -> peer_pb2.PeerFrame | None:
    if dice.random() < 0.5:
        frame = absurd_message(dice, peer_pb2.PeerFrame)
        assert isinstance(frame, peer_pb2.PeerFrame)
    else:
        try:
            frame = peer_pb2.PeerFrame.FromString(mutated(dice, dice.choice(corpus), corpus))
        except DecodeError:
            return None
    if frame.WhichOneof("body") == "raft":
        setattr(frame.raft, "from", "b")
        frame.raft.to = "a"
        if dice.random() < 0.7:
            frame.raft.term = dice.randrange(5)
    return frame


def test_a_peer_gone_mad_is_refused_or_believed_but_breaks_nothing_by_form() -> None:
    """Consensus trusts its members' words, but no form of words may trip it."""
    corpus = good_peer_frames()
    for dice in rounds(22, PEER_ROUNDS):
        cluster = Cluster("a", "b", "c")
        cluster.elect()
        client = cluster.client("a")
        client.write(create("/a"))
        cluster.settle()
        replica = cluster.replica("a")
        for _ in range(dice.randint(1, 10)):
            frame = peer_frame(dice, corpus)
            if frame is None:
                continue
            try:
                replica.receive("b", [frame])
            except MalformedFrame as error:
                assert "\n" not in str(error), error  # noqa: PT017 - a refusal is one of the right outcomes
            if dice.random() < 0.5:
                cluster.settle()
        for member in cluster.members.values():
            # A lie of the leader about what was acknowledged is believed, and stops a member in good order.
            member.replica.state.raft.state.lost_index = 0
        cluster.tick(dice.randrange(3))


def absurd_command(dice: random.Random) -> bytes:
    """A command that parses, with whatever in it: what a mad member could put into the log."""
    command = absurd_message(dice, log_pb2.Command)
    assert isinstance(command, log_pb2.Command)
    writes = absurd_message(dice, data_pb2.WriteBatch).SerializeToString()
    kind = dice.choice(("session", "session", "anonymous", "as it is"))
    if kind == "session":
        command.session_writes.session_id = dice.choice((1, 2, 3, 4, command.session_writes.session_id))
        command.session_writes.first_sequence = dice.choice((1, 2, 3, command.session_writes.first_sequence))
        command.session_writes.writes = writes
    elif kind == "anonymous":
        command.anonymous_writes.writes = writes
    command.origin = dice.choice(("a", "b", "nobody", ""))
    return command.SerializeToString()


def test_absurd_commands_are_applied_or_refused_alike_everywhere() -> None:
    """What is in the log cannot be taken back: applying must be total, and the same on all members."""
    for dice in rounds(24, COMMAND_ROUNDS):
        cluster = Cluster("a", "b")
        leader = cluster.elect()
        clients = [cluster.client(dice.choice("ab")) for _ in range(2)]
        other = "b" if leader == "a" else "a"
        for _ in range(20):
            commands = [absurd_command(dice) for _ in range(dice.randint(1, 4))]
            forward = peer_pb2.Forward(commands=commands)
            try:
                cluster.replica(leader).receive(other, [peer_pb2.PeerFrame(forward=forward)])
            except MalformedFrame:
                continue
            cluster.settle()
        cluster.tick(dice.randrange(3))
        for client in clients:
            client.take()
        assert len(cluster.digests()) == 1
        cluster.replica("a").state.machine.verify()
        assert cluster.members["a"].store.records == cluster.members["b"].store.records


def a_tree() -> dict[bytes, bytes]:
    """The records of a tree with nodes of every kind, sessions, stored results and a history."""
    cluster = Cluster("a")
    cluster.elect()
    client = cluster.client("a", client_name="somebody")
    client.write(
        create("/a", b"value"),
        create("/a/e", mode=data_pb2.EPHEMERAL),
        create("/a/s-", mode=data_pb2.PERSISTENT_SEQUENTIAL),
        create("/ttl", mode=data_pb2.TTL, ttl_ms=1_000_000),
        create("/c", mode=data_pb2.CONTAINER),
        create("/a"),
    )
    cluster.settle()
    return dict(cluster.members["a"].store.records)


def test_a_tree_with_a_damaged_record_is_refused_or_whole() -> None:
    """As a peer might stream it: keys and values as they like. See `SnapshotReceiver`, which verifies it."""
    original = a_tree()
    keys = sorted(original)
    refused = 0
    for dice in rounds(23, TREE_ROUNDS):
        tree = dict(original)
        for _ in range(dice.randint(1, 3)):
            key = dice.choice(keys)
            value = tree.pop(key, b"")
            if dice.random() < 0.3:
                key = mutated(dice, key, keys)
            if dice.random() < 0.8:
                tree[key] = mutated(dice, value) if dice.random() < 0.8 else value
        try:
            StateMachine(MemoryStore(tree), Limits()).verify()
        except CorruptStateError as error:
            refused += 1
            assert "\n" not in str(error), error  # noqa: PT017 - a refusal is one of the right outcomes
    assert refused > TREE_ROUNDS // 2


@pytest.mark.parametrize("data", [b"\xff", b"\x12\x02\xff\xff"])
def test_an_entry_that_is_no_batch_of_commands_ends_the_member_in_one_line(data: bytes) -> None:
    cluster = Cluster("a")
    cluster.elect()
    member = cluster.members["a"]
    member.replica.state.raft.propose([data])
    with pytest.raises(CorruptStateError, match="no batch of commands"):
        cluster.settle()
