"""The face for threads: the same surface, callbacks that may call, interruptions that leave nothing."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

import coordclient
from coordclient import (
    Client,
    ClientClosedError,
    ClientStateError,
    CompareFailedError,
    ConnectionLostError,
    Event,
    EventType,
    ForkedClientError,
    InstanceTakenError,
    Leader,
    LeaderTerm,
    LockLostError,
    LockTimeoutError,
    NoNodeError,
    NotConnectedError,
    State,
    Status,
    Term,
    TransactionError,
    forks,
)
from coordclient.portal import Portal, shared_portal
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer


class ThreadsServer:
    """The fake server on the portal's loop, with its switches in the hands of a thread."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.fake = portal.run(self._start())

    async def _start(self) -> FakeServer:
        fake = FakeServer()
        await fake.start()
        return fake

    def stop(self) -> None:
        self.portal.run(self.fake.stop())

    def do(self, act: Callable[[], object]) -> None:
        """Do something to the server, on its loop."""

        async def run() -> None:
            act()

        self.portal.run(run())

    def wait(self, condition: Callable[[], object]) -> None:
        self.portal.run(eventually(condition))


@pytest.fixture
def server() -> Iterator[ThreadsServer]:
    server = ThreadsServer(shared_portal())
    yield server
    server.stop()


@pytest.fixture
def client(server: ThreadsServer) -> Iterator[Client]:
    with Client(server.fake.address) as client:
        yield client


FACES = [
    (face, core)
    for name, core in vars(coordclient).items()
    if name.startswith("Async") and (face := vars(coordclient).get(name.removeprefix("Async"))) is not None
]


def test_every_asyncio_class_has_a_face_for_threads() -> None:
    """`Term` is `LeaderTerm` there, since a thread's term is a wrapped one."""
    alone = {name for name in coordclient.__all__ if name.startswith("Async")} - {
        core.__name__ for _, core in FACES
    }

    assert not alone
    assert len(FACES) > 25


def methods(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"]


@pytest.mark.parametrize(("face", "core"), [*FACES, (LeaderTerm, Term)])
def test_both_faces_have_the_same_methods_with_the_same_arguments(face: type, core: type) -> None:
    for name in methods(face):
        mine, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (face, core))
        assert list(mine) == list(theirs), name
        defaults = [parameter.default for parameter in mine.values()]
        assert defaults == [parameter.default for parameter in theirs.values()], name


async def test_a_blocking_call_in_a_running_event_loop_is_refused_at_once() -> None:
    with pytest.raises(ClientStateError, match="use AsyncClient"):
        Client("127.0.0.1:1").connect()


def test_a_node_lives_from_create_to_delete(client: Client) -> None:
    assert client.create("/app/config", b"v1", parents=True) == "/app/config"
    assert client.get("/app/config").value == b"v1"
    assert client.set("/app/config", b"v2", version=0).version == 1
    assert client.exists("/nope") is None
    assert client.get_children("/app") == ["config"]
    assert [node.value for node in client.get_children_nodes("/app")] == [b"v2"]
    client.ensure_path("/a/b/c")
    assert client.sync() == client.last_zxid
    assert [event.path for event in client.history("/app")] == ["/app", "/app/config", "/app/config"]
    assert client.delete("/app", recursive=True) == 2
    with pytest.raises(NoNodeError):
        client.get("/app")


def test_states_and_listeners(server: ThreadsServer) -> None:
    heard: list[State] = []
    client = Client(server.fake.address)
    client.add_listener(heard.append)
    with pytest.raises(NotConnectedError):
        client.get("/")
    with client:
        assert client.state is State.CONNECTED
        assert client.session_id != 0
        assert client.member == "fake"
        server.do(server.fake.drop_connections)
        server.wait(lambda: len(heard) == 3)
    with pytest.raises(ClientClosedError):
        client.get("/")
    client.close()

    assert heard == [State.CONNECTED, State.SUSPENDED, State.CONNECTED, State.CLOSED]


def test_connecting_in_vain_raises() -> None:
    with pytest.raises(ConnectionLostError), Client("127.0.0.1:1", connect_timeout=0.1):
        pass


def test_many_threads_share_a_client(client: Client) -> None:
    made: list[str] = []

    def work() -> None:
        made.extend(client.create("/q-", sequential=True) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 160


def test_transactions(client: Client) -> None:
    with client.transaction() as transaction:
        transaction.create("/a", b"1")
        transaction.set("/a", b"2")
    assert transaction.succeeded

    failing = client.transaction()
    failing.create("/a")
    with pytest.raises(TransactionError):
        failing.commit()
    comparing = client.transaction()
    comparing.compare("/a", "value", "==", b"1")
    with pytest.raises(CompareFailedError):
        comparing.commit()


# ---------------------------------------------------------------------------------------------
# Watches


def test_a_stream_is_iterated_over(client: Client) -> None:
    with client.watch("/a", recursive=True) as events:
        client.create("/a")
        client.set("/a", b"1")
        seen = [next(events).type, next(events).type]

    assert seen == [EventType.CREATED, EventType.CHANGED]
    assert list(events) == []


def test_a_stream_can_be_closed_by_another_thread(client: Client, server: ThreadsServer) -> None:
    events = client.watch("/a").start()
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(events))
    reader.start()
    client.create("/a")
    server.wait(lambda: seen)
    events.close()
    reader.join()

    assert [event.path for event in seen] == ["/a"]


def test_callbacks_run_in_threads_of_their_own_and_may_call_the_client(client: Client) -> None:
    """One that blocks for ever holds up nobody else."""
    done, blocked = threading.Event(), threading.Event()
    values: list[bytes] = []

    def note(event: Event) -> None:
        values.append(client.get(event.path).value)
        done.set()

    watch = client.watch("/a", callback=lambda event: blocked.wait(60))
    client.exists("/a", watch=note)
    client.create("/a", b"1")
    assert done.wait(10)
    blocked.set()
    watch.close()

    assert values == [b"1"]


# ---------------------------------------------------------------------------------------------
# Recipes


def test_a_lock_is_held_in_its_block(client: Client) -> None:
    client.create("/a")
    with client.lock("/locks/a") as held:
        client.set("/a", b"1", guard=held)
        held.check()
        assert held.remaining > 0
        assert not held.lost
        assert client.lock("/locks/a").try_acquire() is None
        assert len(client.lock("/locks/a").contenders()) == 1
        with pytest.raises(LockTimeoutError):
            client.lock("/locks/a").acquire(timeout=0.05, owner="another")

    assert held.is_released
    with pytest.raises(LockLostError):
        held.check()


def test_a_lost_lock_comes_out_of_its_block(client: Client, server: ThreadsServer) -> None:
    lock = client.lock("/locks/a")

    def hold() -> None:
        with lock as held:
            server.do(lambda: server.fake.expire(client.session_id))
            assert held.lost.wait(10)
            assert held.remaining == 0

    with pytest.raises(LockLostError):
        hold()


def test_an_election(client: Client) -> None:
    election = client.election("/elections/a", value=b"me")
    observed = election.observe()
    assert next(observed) is None
    with election.lead() as term:
        assert election.leader() == Leader(b"me", term.token)
        assert next(observed) == Leader(b"me", term.token)
    assert next(observed) is None
    observed.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_service(client: Client) -> None:
    views = client.services.watch("api")
    assert next(views) == ()
    with client.services.register("api", "h", 1, payload={"zone": "a"}, id="x") as registration:
        assert [instance.id for instance in next(views)] == ["x"]
        registration.update(status=Status.DRAINING)
        assert next(views)[0].status is Status.DRAINING
        assert client.services.discover("api")[0].payload == {"zone": "a"}
        with pytest.raises(InstanceTakenError):
            client.services.register("api", "h", 1, id="x")
        assert registration.is_registered
    assert next(views) == ()
    views.close()  # type: ignore[attr-defined]  # it is a generator


class InterruptError(Exception):
    """Stands for KeyboardInterrupt."""


def test_an_interrupted_acquire_leaves_nothing(client: Client, server: ThreadsServer) -> None:
    """Ctrl-C while the lock is about to be granted."""

    def interrupt(number: int, frame: object) -> None:
        raise InterruptError

    def interrupt_when_asked() -> None:
        server.wait(lambda: server.fake.frames)
        signal.pthread_kill(main, signal.SIGUSR1)

    main = threading.get_ident()
    server.fake.holds_answers = True
    former = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=interrupt_when_asked)
    try:
        thread.start()
        with pytest.raises(InterruptError):
            client.lock("/locks/a").acquire()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, former)
    server.do(server.fake.release_answers)
    server.wait(lambda: client.asynchronous.janitor.task_count == 0)

    client.sync()
    assert server.fake.names("/locks/a") == []


def test_a_forked_client_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as child:
        child.setattr(forks._Process, "generation", forks.generation() + 1)
        with pytest.raises(ForkedClientError):
            client.get("/a")
