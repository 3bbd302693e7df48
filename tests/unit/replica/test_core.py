"""A replica, its peers and its clients: the promises that hold between them, without a network or a disk."""

from __future__ import annotations

import pytest

from coordproto.v1 import coordination_pb2, data_pb2, peer_pb2
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.types import Limits
from tests.unit.replica.cluster import Client, Cluster, create, delete, get, kinds, set_value

STALE = data_pb2.STALE


@pytest.fixture
def trio() -> Cluster:
    cluster = Cluster("a", "b", "c")
    cluster.elect()
    return cluster


def followers(cluster: Cluster) -> list[str]:
    return [member.name for member in cluster.up() if not member.replica.state.raft.is_leader]


def values(cluster: Cluster, member: str, path: str) -> bytes:
    node = cluster.replica(member).state.machine.get(path)
    return node.value  # type: ignore[union-attr]  # a missing node fails the test


class TestWrites:
    def test_a_write_at_a_follower_is_answered_and_applied_everywhere(self, trio: Cluster) -> None:
        client = trio.client(followers(trio)[0])
        client.write(create("/a", b"1"))
        items = client.settled()
        assert kinds(items) == ["attached", "w1"]
        assert items[1].write.created.path == "/a"
        trio.tick()
        assert len(trio.digests()) == 1

    def test_a_single_member_needs_nobody(self) -> None:
        cluster = Cluster("alone")
        cluster.elect()
        client = cluster.client("alone")
        client.write(create("/a"), set_value("/a", b"2"))
        assert kinds(client.settled()) == ["attached", "w1", "w2"]

    def test_answers_come_in_the_order_of_the_writes_over_many_frames(self, trio: Cluster) -> None:
        client = trio.client(followers(trio)[0])
        for number in range(20):
            client.write(create(f"/n{number}"), set_value(f"/n{number}", b"x"))
        answers = [kind for kind in kinds(client.settled()) if kind != "attached"]
        assert answers == [f"w{sequence}" for sequence in range(1, 41)]

    def test_a_failed_write_is_answered_in_its_place(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.write(create("/a"), create("/a"), set_value("/a", b"z"))
        _, first, second, third = client.settled()
        assert first.write.WhichOneof("result") == "created"
        assert second.write.error.code == data_pb2.NODE_EXISTS
        assert third.write.WhichOneof("result") == "set"

    def test_all_commands_that_gathered_become_one_entry(self, trio: Cluster) -> None:
        leader = trio.elect()
        clients = [trio.client(leader) for _ in range(5)]
        before = trio.replica(leader).state.machine.applied_index
        for number, client in enumerate(clients):
            client.write(create(f"/n{number}"))
        trio.settle()
        assert trio.replica(leader).state.machine.applied_index == before + 1

    def test_a_value_above_the_limit_is_refused_in_its_place(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.write(create("/a"), set_value("/a", b"x" * (1 << 20) + b"y"), create("/b"))
        first, second, third = client.settled()
        assert first.write.WhichOneof("result") == third.write.WhichOneof("result") == "created"
        assert second.write.error.code == data_pb2.LIMIT_EXCEEDED
        assert "1048577 bytes; the limit is 1048576" in second.write.error.message

    def test_a_path_above_the_configured_limit_is_refused_in_its_place(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(path_bytes_max=10))
        cluster.elect()
        client = cluster.client("a")
        client.take()
        client.write(create("/123456789"), create("/1234567890"), delete("/123456789"))
        answers = [item.write for item in client.settled()]
        assert [answer.error.code for answer in answers] == [0, data_pb2.LIMIT_EXCEEDED, 0]


class TestExactlyOnce:
    """Promise G5: while the session lives, there is no "maybe it happened"."""

    def test_writes_lost_on_the_way_to_the_leader_are_sent_again(self, trio: Cluster) -> None:
        client = trio.client(followers(trio)[0])
        trio.drop = lambda _source, _target, frame: frame.WhichOneof("body") == "forward"
        client.write(create("/a"))
        assert kinds(client.settled()) == ["attached"]
        trio.drop = lambda *_: False
        trio.tick(40)
        assert kinds(client.take()) == ["w1"]

    def test_a_frame_that_overtook_a_lost_one_changes_nothing_before_it(self, trio: Cluster) -> None:
        client = trio.client(followers(trio)[0])
        client.take()
        lost: list[bool] = []

        def lose_first(_source: str, _target: str, frame: object) -> bool:
            is_first = frame.WhichOneof("body") == "forward" and not lost  # type: ignore[attr-defined]
            lost.extend([True] if is_first else [])
            return is_first

        trio.drop = lose_first
        client.write(create("/a", b"first"))
        trio.settle()
        client.write(set_value("/a", b"second"))
        assert client.settled() == []
        trio.tick(2)
        assert kinds(client.take()) == ["w1", "w2"]
        assert values(trio, "a", "/a") == b"second"

    def test_the_leader_dies_with_the_answer_and_the_new_one_gives_the_same(self, trio: Cluster) -> None:
        leader = trio.elect()
        member = followers(trio)[0]
        client = trio.client(member)
        client.write(create("/n-", mode=data_pb2.PERSISTENT_SEQUENTIAL))
        client.cluster.settle()
        client.connection.take()  # The answer is on its way when the connection breaks.
        client.hang_up()
        trio.kill(leader)
        client.session_id, client.secret = 1, b"secret of 16 byt"
        new_leader = trio.elect()
        client.attach(new_leader)
        attached = client.settled()[0].attached
        assert attached.last_sequence == 1
        client.frame(
            first_sequence=1,
            writes=data_pb2.WriteBatch(writes=[create("/n-", mode=data_pb2.PERSISTENT_SEQUENTIAL)]),
        )
        (answer,) = client.settled()
        assert answer.write.created.path == "/n-0000000000"
        assert trio.replica(new_leader).state.machine.node_count == 2

    def test_a_new_leader_gets_what_the_old_one_did_not_log_at_once(self) -> None:
        """Not only when the timer for lost commands runs out."""
        trio = Cluster("a", "b", "c", settings=ReplicaSettings(resend_after_ms=1 << 40))
        leader = trio.elect()
        client = trio.client(followers(trio)[0])
        client.take()
        trio.drop = lambda _source, _target, frame: frame.WhichOneof("body") == "forward"
        client.write(create("/a"))
        trio.settle()
        trio.drop = lambda *_: False
        trio.kill(leader)
        trio.elect()
        assert kinds(client.settled()) == ["w1"]

    def test_a_frame_still_under_way_from_the_old_member_is_not_applied_twice(self, trio: Cluster) -> None:
        old, new = followers(trio)
        client = trio.client(old)
        client.take()
        client.write(create("/a"), create("/b"))
        client.attach(new)
        assert kinds(client.settled()) == ["attached"]
        client.next_sequence = 1
        client.write(create("/a"), create("/b"))
        assert kinds(client.settled()) == ["w1", "w2"]
        assert [item.write.WhichOneof("result") for item in client.received[-2:]] == ["created", "created"]

    def test_writes_wait_without_a_majority_and_go_through_when_it_is_back(self, trio: Cluster) -> None:
        leader = trio.elect()
        client = trio.client(leader)
        client.take()
        others = followers(trio)
        for other in others:
            trio.kill(other)
        client.write(create("/a"))
        trio.tick(50)
        assert client.take() == []
        trio.start(others[0])
        trio.elect()
        trio.tick(40)
        assert kinds(client.take()) == ["w1"]

    def test_everything_acknowledged_survives_the_death_of_all(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.write(*[create(f"/n{number}") for number in range(10)])
        assert len(client.settled()) == 11
        for name in "abc":
            trio.kill(name)
        for name in "abc":
            trio.start(name)
        trio.elect()
        assert [trio.replica(name).state.machine.node_count for name in "abc"] == [11, 11, 11]

    def test_large_results_do_not_stop_a_session_that_acknowledges_them(self) -> None:
        """Writes without room for their results go on once the client has acknowledged the others."""
        cluster = Cluster("a", limits=Limits(results_bytes_per_session=10_000))
        cluster.elect()
        client = cluster.client("a")
        client.write(create("/a", b"x" * 4_000))
        client.settled()
        read_it = data_pb2.TransactionOp(get=get("/a"))
        large = data_pb2.Write(transaction=data_pb2.Transaction(success=[read_it]))
        client.write(*[large] * 10)
        client.write(*[large] * 10)
        answered = [item.write.sequence for item in client.settled()]
        assert 0 < len(answered) < 20
        while len(answered) < 20:
            client.frame(acknowledged_sequence=answered[-1])
            cluster.tick(2)
            fresh = [item.write.sequence for item in client.take()]
            assert fresh, f"stopped after {answered}"
            answered += fresh
        assert answered == list(range(2, 22))


class TestDisk:
    def test_a_leader_whose_disk_hangs_hands_over(self, trio: Cluster) -> None:
        """Its heartbeats alone would keep it in office, and all writes waiting (etcd#13527)."""
        leader = trio.elect()
        client = trio.client(followers(trio)[0])
        client.take()
        trio.stalled = {leader}
        client.write(create("/a"))
        trio.settle()
        for _ in range(60):
            client.frame(ping=1)
            trio.tick()
        assert "w1" in kinds(client.take())
        assert not trio.replica(leader).state.raft.is_leader


class TestReads:
    def test_a_linearizable_read_at_a_follower_sees_what_was_acknowledged_elsewhere(
        self, trio: Cluster
    ) -> None:
        leader = trio.elect()
        lagging = followers(trio)[0]
        reader = trio.client(lagging)
        writer = trio.client(leader)
        reader.take()
        trio.cut = {(leader, lagging)}
        writer.write(create("/a", b"new"))
        assert kinds(writer.settled()) == ["attached", "w1"]
        reader.read(get=get("/a"))
        trio.settle()
        assert reader.take() == [], "it has not seen the write, so it must not answer"
        trio.cut.clear()
        trio.tick(30)
        (answer,) = reader.take()
        assert answer.read.node.value == b"new"

    def test_a_deposed_leader_answers_no_linearizable_read(self, trio: Cluster) -> None:
        old = trio.elect()
        reader = trio.client(old)
        reader.take()
        trio.isolate(old)
        reader.read(exists=data_pb2.Exists(path="/a"))
        trio.settle()
        assert reader.take() == []

    def test_a_stale_read_works_without_a_leader(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.write(create("/a", b"1"))
        client.settled()
        for name in ("b", "c"):
            trio.kill(name)
        trio.tick(40)
        client.read(get=get("/a"), consistency=STALE)
        (answer,) = client.take()
        assert answer.read.node.value == b"1"

    def test_reads_stay_in_the_order_of_the_session(self, trio: Cluster) -> None:
        """Promise G4: a read sees the writes sent before it, and none sent after it."""
        client = trio.client(followers(trio)[0])
        client.take()
        client.write(create("/a", b"1"))
        client.read(get=get("/a"))
        client.write(set_value("/a", b"2"))
        client.read(get=get("/a"))
        client.write(set_value("/a", b"3"))
        items = client.settled()
        reads = [item.read for item in items if item.WhichOneof("item") == "read"]
        assert [read.node.value for read in reads] == [b"1", b"2"]
        assert kinds(items) == ["w1", "r1", "w2", "r2", "w3"]

    def test_min_zxid_waits_without_holding_up_other_reads(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.read(sync=data_pb2.Sync(), min_zxid=1)
        client.read(sync=data_pb2.Sync())
        assert kinds(client.settled()) == ["r2"]
        client.write(create("/a"))
        assert kinds(client.settled()) == ["w1", "r1"]

    def test_min_zxid_that_never_comes_is_refused_in_the_end(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.read(sync=data_pb2.Sync(), min_zxid=1 << 40)
        client.settled()
        for _ in range(70):
            client.frame(ping=1)
            trio.tick(10)
        answers = [item.read for item in client.take() if item.WhichOneof("item") == "read"]
        assert [read.error.code for read in answers] == [data_pb2.REQUEST_TIMEOUT]

    def test_reads_share_a_confirmation_round(self, trio: Cluster) -> None:
        follower = followers(trio)[0]
        client = trio.client(follower)
        client.take()
        rounds: list[object] = []

        def count(_source: str, _target: str, frame: peer_pb2.PeerFrame) -> bool:
            if frame.WhichOneof("body") == "confirm_request":
                rounds.append(frame)
            return False

        trio.drop = count
        for _ in range(50):
            client.read(sync=data_pb2.Sync())
        assert len(client.settled()) == 50
        assert len(rounds) == 1


class TestWatches:
    def test_events_stand_before_the_answer_that_shows_them(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.read(watch=data_pb2.Watch(watch_id=5, path="/a", with_values=True))
        client.write(create("/a", b"1"), set_value("/a", b"2"))
        assert kinds(client.settled()) == ["r1", "CREATED /a @1", "w1", "CHANGED /a @2", "w2"]

    def test_one_shot_watches_fire_once(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.read(exists=data_pb2.Exists(path="/a"), watch_id=9)
        client.settled()
        client.write(create("/a"), set_value("/a", b"2"))
        assert kinds(client.settled()) == ["CREATED /a @1", "w1", "w2"]

    def test_a_get_watch_on_a_missing_node_is_not_set(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.read(get=get("/a"), watch_id=9)
        client.settled()
        client.write(create("/a"))
        assert kinds(client.settled()) == ["w1"]

    def test_a_watch_resumes_at_another_member_without_a_gap(self, trio: Cluster) -> None:
        """Promise G6."""
        client = trio.client("a")
        client.read(watch=data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE))
        client.settled()
        writer = trio.client("b")
        writer.write(create("/a"))
        trio.settle()
        assert kinds(client.take())[-1] == "CREATED /a @1"
        client.hang_up()
        writer.write(create("/b"), delete("/a"), create("/a"))
        trio.settle()
        resumed = data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE, since=1)
        client.attach("c", watches=[resumed], last_zxid=1)
        assert kinds(client.settled()) == ["attached", "CREATED /b @2", "DELETED /a @3", "CREATED /a @4"]
        writer.write(set_value("/b", b"live"))
        trio.settle()
        assert kinds(client.take()) == ["CHANGED /b @5"]

    def test_a_long_gap_is_replayed_in_slices_and_in_order(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(catch_up_changes=7))
        cluster.elect()
        writer = cluster.client("a")
        for number in range(100):
            writer.write(create(f"/n{number:03}"))
        cluster.settle()
        client = Client(cluster, "a")
        watch = data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE, since=0)
        client.attach("a", watches=[watch])
        assert kinds(client.settled())[1:] == [f"CREATED /n{n:03} @{n + 1}" for n in range(100)]

    def test_trimmed_history_is_told_once_with_resync(self) -> None:
        cluster = Cluster("a", limits=Limits(history_changes=10))
        cluster.elect()
        writer = cluster.client("a")
        for number in range(30):
            writer.write(create(f"/n{number:02}"))
        cluster.settle()
        client = Client(cluster, "a")
        client.attach("a", watches=[data_pb2.Watch(watch_id=1, path="/n00", since=0)])
        assert kinds(client.settled()) == ["attached", "RESYNC /n00 @20"]
        writer.write(set_value("/n00", b"x"))
        cluster.settle()
        assert kinds(client.take()) == ["CHANGED /n00 @31"]

    def test_live_watches_keep_their_order_while_another_one_is_replayed(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.read(watch=data_pb2.Watch(watch_id=1, path="/live"))
        client.write(create("/old"))
        client.settled()
        client.read(watch=data_pb2.Watch(watch_id=2, path="/old", since=0))
        client.write(create("/live"))
        assert kinds(client.settled()) == ["CREATED /old @1", "r2", "CREATED /live @2", "w2"]

    def test_cancelled_watches_are_silent(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.read(watch=data_pb2.Watch(watch_id=1, path="/a"))
        client.frame(cancelled_watches=[1])
        client.settled()
        client.frame(cancelled_watches=[1])
        client.settled()
        client.write(create("/a"))
        assert kinds(client.settled()) == ["w1"]

    def test_one_event_for_many_watches_of_a_connection_is_sent_once(self, trio: Cluster) -> None:
        client = trio.client("a")
        for watch_id in (1, 2, 300):
            client.read(watch=data_pb2.Watch(watch_id=watch_id, path="/a"))
        client.settled()
        client.write(create("/a"))
        delivery = client.settled()[0].delivery
        assert list(delivery.watch_ids) == [1, 2, 300]


class TestSessions:
    def test_a_silent_session_expires_and_its_ephemerals_go_in_one_transaction(self, trio: Cluster) -> None:
        """Promise G7."""
        watcher = trio.client("a")
        watcher.read(watch=data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE))
        client = trio.client("b")
        client.write(create("/e1", mode=data_pb2.EPHEMERAL), create("/e2", mode=data_pb2.EPHEMERAL))
        client.settled()
        client.hang_up()
        for _ in range(49):
            watcher.frame(ping=1)
            trio.tick()
        assert not [kind for kind in kinds(watcher.take()) if kind.startswith("DELETED")]
        for _ in range(11):
            watcher.frame(ping=1)
            trio.tick()
        deleted = [kind for kind in kinds(watcher.take()) if kind.startswith("DELETED")]
        assert deleted == ["DELETED /e1 @3", "DELETED /e2 @3"]

    def test_a_pinging_session_lives_at_any_member_and_gets_pongs(self, trio: Cluster) -> None:
        clients = [trio.client(name) for name in "abc"]
        for number in range(1, 100):
            for client in clients:
                client.frame(ping=number)
            trio.tick()
        for client in clients:
            pongs = [item.pong for item in client.take() if item.WhichOneof("item") == "pong"]
            assert pongs == list(range(1, 100))

    def test_no_pong_without_the_leader(self, trio: Cluster) -> None:
        """A pong means that the leader renewed the session: a cut-off member must not give one."""
        member = followers(trio)[0]
        client = trio.client(member)
        client.take()
        trio.isolate(member)
        client.frame(ping=1)
        trio.tick(5)
        assert client.take() == []

    def test_a_new_leader_gives_every_session_its_full_timeout(self, trio: Cluster) -> None:
        leader = trio.elect()
        member = followers(trio)[0]
        client = trio.client(member)
        client.take()
        trio.tick(45)
        trio.kill(leader)
        trio.elect()
        trio.tick(45)
        client.write(create("/still-here"))
        assert kinds(client.settled()) == ["w1"]

    def test_a_leader_that_was_asleep_expires_nobody_for_it(self) -> None:
        cluster = Cluster("a")
        cluster.elect()
        client = cluster.client("a")
        client.take()
        cluster.now_ms += 60_000
        cluster.tick()
        client.write(create("/still-here"))
        assert kinds(client.settled()) == ["w1"]

    def test_the_older_connection_of_a_session_is_told_that_it_moved(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        older = client.connection
        client.attach("b")
        client.settled()
        last = coordination_pb2.ServerItem.FromString(older.take()[-1])
        assert kinds([last]) == ["error SESSION_MOVED"]
        client.write(create("/a"))
        assert kinds(client.settled()) == ["w1"]

    def test_a_wrong_secret_and_an_unknown_session_are_refused_alike(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.take()
        client.secret = b"wrong"
        client.attach("b")
        assert kinds(client.settled()) == ["error SESSION_EXPIRED"]
        client.session_id = 12345
        client.attach("b")
        assert kinds(client.settled()) == ["error SESSION_EXPIRED"]

    def test_closing_ends_the_session_and_says_so(self, trio: Cluster) -> None:
        client = trio.client("a")
        client.write(create("/e", mode=data_pb2.EPHEMERAL))
        client.settled()
        client.frame(close=True)
        assert kinds(client.settled()) == ["closed"]
        assert trio.replica("a").state.machine.sessions == {}
        assert trio.replica("a").state.machine.node_count == 1

    def test_opening_twice_because_of_a_resend_leaves_no_second_session(self, trio: Cluster) -> None:
        follower = followers(trio)[0]
        leader = trio.elect()
        trio.drop = lambda source, _target, frame: source == leader and frame.WhichOneof("body") == "raft"
        client = Client(trio, follower)
        client.attach(follower)
        trio.settle()
        trio.replica(follower).peer_up(leader, "x:1")  # The link broke: everything is sent again.
        trio.settle()
        trio.drop = lambda *_: False
        trio.tick(30)
        assert kinds(client.take()) == ["attached"]
        assert len(trio.replica(leader).state.machine.sessions) == 1


class TestRefusals:
    """What a client may do wrong ends its stream with a typed error, and touches nobody else."""

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ({"attach": coordination_pb2.Attach()}, "MALFORMED"),
            ({"first_sequence": 5, "writes": data_pb2.WriteBatch(writes=[create("/a")])}, "SEQUENCE_GAP"),
            ({"first_sequence": 0, "writes": data_pb2.WriteBatch(writes=[create("/a")])}, "SEQUENCE_GAP"),
            (
                {"first_sequence": 1, "writes": data_pb2.WriteBatch(writes=[create("/a")] * 1025)},
                "LIMIT_EXCEEDED",
            ),
            ({"reads": [coordination_pb2.Read(id=1)]}, "MALFORMED"),
            ({"reads": [coordination_pb2.Read(id=1, sync=data_pb2.Sync())] * 1025}, "LIMIT_EXCEEDED"),
            ({"reads": [coordination_pb2.Read(id=1, watch=data_pb2.Watch(path="/a"))]}, "INVALID_ARGUMENT"),
        ],
    )
    def test_a_frame_that_breaks_the_rules(self, trio: Cluster, frame: dict[str, object], code: str) -> None:
        client, bystander = trio.client("a"), trio.client("a")
        client.take()
        client.frame(**frame)
        assert kinds(client.settled()) == [f"error {code}"]
        assert client.connection.is_closed
        bystander.write(create("/fine"))
        assert kinds(bystander.settled()) == ["attached", "w1"]

    def test_a_client_that_does_not_read_is_cut_off_and_resumes(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(outgoing_bytes_max=10_000))
        cluster.elect()
        slow, writer = cluster.client("a"), cluster.client("a")
        slow.read(
            watch=data_pb2.Watch(watch_id=1, path="/", kind=data_pb2.STREAM_RECURSIVE, with_values=True)
        )
        slow.settled()
        for number in range(200):
            writer.write(create(f"/n{number}", b"x" * 100))
        cluster.settle()
        assert kinds(slow.take()) == ["error SLOW_CONSUMER"]
        assert slow.connection.is_closed

    def test_too_many_watches(self) -> None:
        cluster = Cluster("a", settings=ReplicaSettings(watches_per_session_max=2))
        cluster.elect()
        client = cluster.client("a")
        client.take()
        for watch_id in (1, 2, 3):
            client.read(watch=data_pb2.Watch(watch_id=watch_id, path="/a"))
            cluster.settle()
        items = client.take()
        assert kinds(items) == ["r1", "r2", "r3"]
        assert items[-1].read.error.code == data_pb2.TOO_MANY_WATCHES

    def test_watches_that_are_about_to_be_set_count_too(self) -> None:
        """Else a session had more of them than it may resume with, and could never be attached again."""
        cluster = Cluster("a", settings=ReplicaSettings(watches_per_session_max=2))
        cluster.elect()
        client = cluster.client("a")
        client.take()
        for watch_id in (1, 2, 3):
            client.read(watch=data_pb2.Watch(watch_id=watch_id, path="/a"))
        answers = {item.read.id: item.read.error.code for item in client.settled()}
        assert answers == {1: data_pb2.OK, 2: data_pb2.OK, 3: data_pb2.TOO_MANY_WATCHES}

    def test_a_path_that_cannot_be_watched_is_refused_alone(self) -> None:
        cluster = Cluster("a")
        cluster.elect()
        client = cluster.client("a")
        client.take()
        client.read(watch=data_pb2.Watch(watch_id=1, path="/a/"))
        client.read(watch=data_pb2.Watch(watch_id=2, path="/a"))
        answers = {item.read.id: item.read.error.code for item in client.settled()}
        assert answers == {1: data_pb2.INVALID_PATH, 2: data_pb2.OK}
