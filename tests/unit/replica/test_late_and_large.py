"""What comes too late, too often or too large. Each test was once a hole that a review found."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2, peer_pb2
from coordsvc.raft.messages import MessageType
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.types import Limits
from tests.unit.replica.cluster import Client, Cluster, create, get, kinds, set_value


@pytest.fixture
def trio() -> Cluster:
    cluster = Cluster("a", "b", "c")
    cluster.elect()
    return cluster


def follower_of(cluster: Cluster) -> str:
    return next(member.name for member in cluster.up() if not member.replica.state.raft.is_leader)


def acks(_source: str, _target: str, frame: peer_pb2.PeerFrame) -> bool:
    return frame.WhichOneof("body") == "raft" and frame.raft.type == MessageType.APPEND_RESPONSE


class TestTooLate:
    def test_no_pong_once_the_end_of_the_session_was_proposed(self, trio: Cluster) -> None:
        """Else its holder would trust `valid_until` for a whole timeout after its locks are gone (G7, G8)."""
        client = trio.client(trio.elect())
        client.take()
        trio.drop = acks
        while not any(event == "session_expired" for _, event, _ in trio.notes):
            trio.tick()
        client.frame(ping=7)
        trio.tick()
        assert client.take() == []
        trio.drop = lambda *_: False
        trio.tick(30)
        assert kinds(client.take()) == ["error SESSION_EXPIRED"]

    def test_a_pong_waits_until_what_was_committed_is_applied(self, trio: Cluster) -> None:
        leader, lagging = trio.elect(), follower_of(trio)
        client = trio.client(lagging)
        client.take()
        trio.drop = lambda _source, target, frame: (
            target == lagging and frame.WhichOneof("body") == "raft" and frame.raft.type == MessageType.APPEND
        )
        trio.client(leader).write(create("/a"))
        trio.settle()
        client.frame(ping=7)
        trio.settle()
        assert client.take() == []
        trio.drop = lambda *_: False
        trio.tick(30)
        assert kinds(client.take()) == ["pong"]

    def test_a_frame_that_comes_first_after_a_sleep_does_not_hide_it(self) -> None:
        cluster = Cluster("a")
        cluster.elect()
        client = cluster.client("a")
        client.take()
        cluster.now_ms += 60_000
        cluster.replica("a").set_time(cluster.now_ms, cluster.now_ms)
        cluster.tick()
        client.write(create("/still-here"))
        assert kinds(client.settled()) == ["w1"]

    def test_a_silent_session_is_not_kept_alive_by_a_frame_that_is_sent_again(self) -> None:
        cluster = Cluster("a", limits=Limits(results_bytes_per_session=4_000))
        cluster.elect()
        client = cluster.client("a")
        client.write(create("/a", b"x" * 3_000))
        large = data_pb2.Write(
            transaction=data_pb2.Transaction(success=[data_pb2.TransactionOp(get=get("/a"))])
        )
        client.write(*[large] * 10)
        client.settled()
        assert client.connection.outstanding
        before = cluster.replica("a").state.machine.applied_index
        cluster.tick(70)
        assert kinds(client.take()) == ["error SESSION_EXPIRED"]
        assert cluster.replica("a").state.machine.applied_index - before < 10

    def test_a_repeat_of_an_answered_write_is_not_waited_for(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.write(create("/a"))
        client.settled()
        client.next_sequence = 1
        client.write(create("/a"))
        client.settled()
        assert not client.connection.outstanding

    def test_an_answer_to_an_earlier_run_confirms_nothing(self, trio: Cluster) -> None:
        member = follower_of(trio)
        former = trio.replica(member)._reads.rounds.number
        trio.restart(member)
        assert abs(trio.replica(member)._reads.rounds.number - former) > 1_000

    def test_a_read_cannot_claim_to_be_older_than_writes_that_were_sent(self, trio: Cluster) -> None:
        """It would be answered ahead of them, at a state that may lack what others were told (G2)."""
        leader, member = trio.elect(), follower_of(trio)
        client, other = trio.client(member), trio.client(leader)
        client.take()
        trio.drop = lambda _source, target, frame: (
            target == member and frame.WhichOneof("body") == "raft" and frame.raft.type == MessageType.APPEND
        )
        client.write(create("/mine"))  # Logged first, and not applied here yet.
        trio.settle()
        other.write(create("/a", b"new"))
        assert kinds(other.settled()) == ["attached", "w1"]
        client.read(get=get("/a"), after_sequence=0)
        trio.drop = lambda *_: False
        trio.tick(40)
        answers = [item.read.node.value for item in client.take() if item.WhichOneof("item") == "read"]
        assert answers == [b"new"]

    def test_answers_do_not_overtake_events_when_a_replay_is_cut_short(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(catch_up_changes=1))
        cluster.elect()
        writer = cluster.client("a")
        for number in range(4):
            writer.write(create(f"/n{number}"))
        cluster.settle()
        client = cluster.client("a")
        client.take()
        replica = cluster.replica("a")
        client.read(
            watch=data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE, since=0),
            consistency=data_pb2.SESSION,
        )
        client.connection.reply(b"an answer that shows the newest state")
        replica._delivery.step(client.connection)
        replica.state.fail_connection(client.connection, 13, "stop")  # type: ignore[arg-type]  # any code does
        assert b"an answer that shows the newest state" not in client.connection.take()

    def test_a_watch_cancelled_before_its_turn_is_never_set(self, trio: Cluster) -> None:
        client = trio.client(follower_of(trio))
        client.take()
        client.read(watch=data_pb2.Watch(watch_id=1, path="/a"))
        client.frame(cancelled_watches=[1])
        client.write(create("/a"))
        assert kinds(client.settled()) == ["r1", "w1"]
        assert client.connection.watches == {}

    def test_the_end_of_a_session_waits_for_its_writes(self, trio: Cluster) -> None:
        client = trio.client(follower_of(trio))
        client.take()
        lost = [True]

        def lose_the_first(_source: str, _target: str, frame: peer_pb2.PeerFrame) -> bool:
            return frame.WhichOneof("body") == "forward" and bool(lost) and lost.pop()

        trio.drop = lose_the_first
        client.write(create("/a"))
        trio.settle()
        client.frame(close=True)
        trio.tick(40)
        assert kinds(client.take()) == ["w1", "closed"]


class TestTooMuch:
    def test_calls_that_ended_without_a_leader_leave_nothing(self) -> None:
        cluster = Cluster("a", "b", "c")
        replica = cluster.replica("a")
        for _ in range(50):
            call = replica.open_call()
            read = coordination_pb2.Read(id=1, sync=data_pb2.Sync())
            replica.client_frame(call, coordination_pb2.ClientFrame(reads=[read]))
            replica.ping_session(call, 1)
            replica.close_connection(call)
        gathering = replica._reads.rounds.gathering
        assert (len(gathering.reads), len(gathering.pings), len(replica._reads._reading)) == (0, 0, 0)

    def test_a_connection_has_one_ping_waiting_at_most(self) -> None:
        cluster = Cluster("a", "b", "c")
        cluster.elect()
        client = cluster.client("a")
        client.take()
        for name in "bc":
            cluster.kill(name)
        cluster.tick(40)
        for number in range(1, 100):
            client.frame(ping=number)
        assert len(cluster.replica("a")._reads.rounds.gathering.pings) == 1

    def test_a_read_of_an_endless_path_is_answered_and_not_kept(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.read(get=get("/" + "x" * 5_000))
        assert not client.connection.reads
        client.read(watch=data_pb2.Watch(watch_id=1, path="/a", kind=data_pb2.ONCE_DATA))
        (answer, watching) = client.settled()
        assert answer.read.error.code == data_pb2.INVALID_PATH
        assert watching.read.watching

    def test_frames_before_the_attach_is_answered_are_bounded_in_bytes(self, trio: Cluster) -> None:
        client = Client(trio, "a")
        client.attach("a")
        for _ in range(10):
            client.frame(
                first_sequence=1, writes=data_pb2.WriteBatch(writes=[create("/a", b"x" * (1 << 20))])
            )
        assert kinds(client.settled()) == ["error LIMIT_EXCEEDED"]

    def test_a_client_that_does_not_read_its_results_is_cut_off(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(outgoing_bytes_max=10_000))
        cluster.elect()
        client = cluster.client("a")
        client.write(create("/a", b"x" * 3_000))
        client.settled()
        large = data_pb2.Write(
            transaction=data_pb2.Transaction(success=[data_pb2.TransactionOp(get=get("/a"))])
        )
        client.write(*[large] * 10)
        cluster.settle()
        assert kinds(client.take()) == ["error SLOW_CONSUMER"]

    def test_followers_keep_no_deadlines(self, trio: Cluster) -> None:
        for _ in range(20):
            client = trio.client("a")
            client.take()
            client.frame(close=True)
            client.settled()
        assert trio.replica(follower_of(trio)).state.clock._heap == []

    def test_an_attach_that_failed_leaves_no_watches(self, trio: Cluster) -> None:
        client = Client(trio, "a")
        client.attach("a", watches=[data_pb2.Watch(watch_id=1, path="/a", since=0)])
        client.hang_up()
        trio.settle()
        assert client.connection.resumed_watches == []
        assert trio.replica("a").state.registry.count == 0

    def test_a_watch_since_before_the_beginning_does_not_spin(self, trio: Cluster) -> None:
        client = Client(trio, "a")
        client.attach("a", watches=[data_pb2.Watch(watch_id=1, path="/a", since=-5)])
        assert kinds(client.settled()) == ["attached"], "the cluster comes to rest"
        client.read(watch=data_pb2.Watch(watch_id=2, path="/a", since=-5))
        assert kinds(client.settled()) == ["error INVALID_ARGUMENT"]

    def test_values_still_pass_after_all_this(self, trio: Cluster) -> None:
        client = trio.client(follower_of(trio))
        client.write(create("/a"), set_value("/a", b"x" * (1 << 20)))
        assert kinds(client.settled()) == ["attached", "w1", "w2"]
