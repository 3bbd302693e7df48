"""Counter: every change applied exactly once, whatever is lost on the way."""

from __future__ import annotations

import asyncio
import random

import pytest

from coordclient import AsyncClient, InvalidArgumentError, InvalidPathError, NotConnectedError, State
from coordclient.errors import (
    ClientClosedError,
    CompareFailedError,
    CounterRangeError,
    InvalidValueError,
    OutcomeUnknownError,
    RecipeTimeoutError,
)
from coordclient.recipes import counter as counter_module
from coordclient.recipes.counter import AsyncCounter, CounterWriter
from coordclient.recipes.counter_steps import CounterChange, Step
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import FakeServer, FakeSession

PATH = "/counters/hits"


@pytest.fixture
def counter(client: AsyncClient) -> AsyncCounter:
    return AsyncCounter(client, PATH)


def held(server: FakeServer) -> bytes:
    return server.tree.nodes[PATH].value


def transactions(server: FakeServer) -> int:
    return sum(frame_transactions(frame) for frame in server.frames)


def frame_transactions(frame: coordination_pb2.ClientFrame) -> int:
    return sum(write.HasField("transaction") for write in frame.writes.writes)


class Fate:
    """What happens to the first transaction that a client sends: its answer never arrives.

    Attributes:
        late: The write as it left. `deliver` applies it at last, if its session may still write.
    """

    def __init__(self, server: FakeServer, *, is_applied: bool) -> None:
        self._server = server
        self._is_applied = is_applied
        self.late: data_pb2.Write | None = None
        self._session: FakeSession | None = None
        server.on_frame = self._take

    def _take(self, frame: coordination_pb2.ClientFrame) -> None:
        if not frame_transactions(frame):
            return
        self._server.on_frame = None
        self.late = frame.writes.writes[0]
        (session,) = self._server.live_sessions
        self._session = session
        if self._is_applied:
            self._server.write(self.late)
        self._server.drop_before_apply = 1
        # The client is told that its session is over; what the session made does not matter here.
        del self._server.sessions[session.session_id]

    def deliver(self) -> data_pb2.WriteResult:
        assert self.late is not None
        return self._server.write(self.late)


async def test_a_counter_counts(counter: AsyncCounter, server: FakeServer) -> None:
    assert await counter.value() == 0
    first = await counter.add()
    assert (first.before, first.after, first.zxid) == (0, 1, server.tree.nodes[PATH].stat.mzxid)
    assert (await counter.add(-5)).after == -4
    assert await counter.value() == -4
    assert held(server) == b"-4"


async def test_it_starts_with_its_initial_value(client: AsyncClient) -> None:
    counter = AsyncCounter(client, PATH, initial=40)
    assert await counter.value() == 40

    change = await counter.add(2)
    assert (change.before, change.after) == (40, 42)


async def test_numbers_may_be_long(counter: AsyncCounter) -> None:
    await counter.set(2**64)
    assert (await counter.add(1)).after == 2**64 + 1
    with pytest.raises(CounterRangeError):
        await counter.add(10**1000)
    with pytest.raises(CounterRangeError):
        await counter.add(10**5000)
    assert await counter.value() == 2**64 + 1


async def test_setting_takes_the_expected_value_into_account(counter: AsyncCounter) -> None:
    assert (await counter.set(7)).after == 7
    change = await counter.set(9, expected=7)
    assert (change.before, change.after) == (7, 9)
    with pytest.raises(CompareFailedError, match="holds 9 and not 7"):
        await counter.set(1, expected=7)
    assert await counter.value() == 9


async def test_out_of_range_changes_nothing(client: AsyncClient, server: FakeServer) -> None:
    counter = AsyncCounter(client, PATH, minimum=0, maximum=3)
    await counter.add(3)
    zxid = server.tree.zxid
    for refused in (counter.add(1), counter.add(-4), counter.set(4)):
        with pytest.raises(CounterRangeError, match="0 to 3"):
            await refused

    assert (held(server), server.tree.zxid) == (b"3", zxid)


async def test_a_refusal_rests_on_the_present_value(connect: Connect) -> None:
    mine = AsyncCounter(await connect(), PATH, maximum=3)
    theirs = AsyncCounter(await connect(), PATH)
    await mine.add(3)
    await theirs.add(-1)

    assert (await mine.add(1)).after == 3


@pytest.mark.parametrize("text", [b"", b"1.5", b"ten", b" 1", b"1\n", b"1" * 1001, b"--1"])
async def test_what_is_no_integer_is_left_alone(
    counter: AsyncCounter, server: FakeServer, text: bytes
) -> None:
    server.set(PATH, text)
    with pytest.raises(InvalidValueError, match=PATH):
        await counter.add()
    with pytest.raises(InvalidValueError, match=PATH):
        await counter.value()

    assert held(server) == text


async def test_text_that_takes_the_place_of_a_number_is_left_alone(
    counter: AsyncCounter, server: FakeServer
) -> None:
    await counter.add()
    server.set(PATH, b"ten")
    with pytest.raises(InvalidValueError):
        await counter.add()

    assert held(server) == b"ten"


async def test_calls_that_come_together_share_a_write(counter: AsyncCounter, server: FakeServer) -> None:
    await counter.add()
    before = transactions(server)
    changes = await asyncio.gather(*(counter.add() for _ in range(50)))

    assert [change.after for change in changes] == list(range(2, 52))
    assert held(server) == b"51"
    assert transactions(server) - before <= 2


async def test_one_refusal_does_not_harm_the_calls_beside_it(client: AsyncClient) -> None:
    counter = AsyncCounter(client, PATH, maximum=5)
    outcomes = await asyncio.gather(counter.add(4), counter.add(4), counter.add(1), return_exceptions=True)

    assert isinstance(outcomes[1], CounterRangeError)
    assert [change.after for change in outcomes if isinstance(change, CounterChange)] == [4, 5]


async def test_two_objects_for_one_counter_of_one_client_share_writes_and_the_marker(
    client: AsyncClient, server: FakeServer
) -> None:
    first, second = AsyncCounter(client, PATH), AsyncCounter(client, PATH)
    await asyncio.gather(*(counter.add() for counter in (first, second) * 5))

    assert held(server) == b"10"
    assert transactions(server) <= 2
    assert len(server.names(PATH)) == 1


async def test_many_clients_lose_no_change(connect: Connect, server: FakeServer) -> None:
    counters = [AsyncCounter(await connect(), PATH) for _ in range(4)]

    async def count(counter: AsyncCounter) -> list[CounterChange]:
        return [await counter.add() for _ in range(10)]

    changes = [change for mine in await asyncio.gather(*map(count, counters)) for change in mine]

    assert sorted(change.after for change in changes) == list(range(1, 41))
    assert held(server) == b"40"
    by_zxid = sorted(changes, key=lambda change: change.zxid)
    assert [change.before for change in by_zxid] == list(range(40))


async def test_a_lost_reply_does_not_count_twice(counter: AsyncCounter, server: FakeServer) -> None:
    await counter.add()
    server.drop_after_apply = 1
    assert (await counter.add()).after == 2
    server.drop_before_apply = 1
    assert (await counter.add()).after == 3

    assert held(server) == b"3"


@pytest.mark.parametrize("was_there", [True, False])
@pytest.mark.parametrize("is_applied", [True, False])
async def test_a_lost_session_does_not_count_twice_nor_forget(
    counter: AsyncCounter, server: FakeServer, was_there: bool, is_applied: bool
) -> None:
    if was_there:
        await counter.add(10)
    Fate(server, is_applied=is_applied)
    change = await counter.add()

    assert change.after == (11 if was_there else 1)
    assert held(server) == b"%d" % change.after
    assert change.zxid == server.tree.nodes[PATH].stat.mzxid
    assert (await counter.add()).before == change.after


@pytest.mark.parametrize("is_applied", [True, False])
async def test_others_may_count_on_before_we_are_back(
    counter: AsyncCounter, server: FakeServer, is_applied: bool
) -> None:
    await counter.add()
    Fate(server, is_applied=is_applied)
    adding = asyncio.create_task(counter.add())
    await eventually(lambda: not server.sessions)
    server.set(PATH, b"70")
    change = await adding

    assert (change.before, change.after) == ((1, 2) if is_applied else (70, 71))
    assert held(server) == (b"70" if is_applied else b"71")


async def test_an_attempt_that_arrives_after_all_counts_once(
    counter: AsyncCounter, client: AsyncClient, server: FakeServer
) -> None:
    """The service may carry out what a session sent until it has expired there, too."""
    await counter.add()
    fate = Fate(server, is_applied=False)

    def deliver_before(frame: coordination_pb2.ClientFrame) -> None:
        if frame_transactions(frame):
            server.on_frame = None
            assert not fate.deliver().HasField("error")

    adding = asyncio.create_task(counter.add())
    await eventually(lambda: fate.late)
    server.on_frame = deliver_before
    change = await adding

    assert (change.before, change.after) == (1, 2)
    assert held(server) == b"2"
    assert fate.deliver().transaction.succeeded is False


async def test_a_marker_that_was_removed_meanwhile_is_made_again(
    counter: AsyncCounter, server: FakeServer
) -> None:
    await counter.add()
    (marker,) = server.names(PATH)
    server.delete(f"{PATH}/{marker}")

    assert (await counter.add()).after == 2
    assert server.names(PATH) == [marker]


async def test_a_marker_that_goes_while_the_session_is_lost_stops_nothing(
    counter: AsyncCounter, server: FakeServer
) -> None:
    await counter.add()
    Fate(server, is_applied=False)
    adding = asyncio.create_task(counter.add())
    await eventually(lambda: not server.sessions)
    (marker,) = server.names(PATH)
    server.delete(f"{PATH}/{marker}")

    assert (await adding).after == 2


async def test_without_a_marker_the_outcome_is_unknown_once_it_may_have_been_removed(
    counter: AsyncCounter, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counter.add()
    Fate(server, is_applied=True)
    adding = asyncio.create_task(counter.add())
    await eventually(lambda: not server.sessions)
    (marker,) = server.names(PATH)
    server.delete(f"{PATH}/{marker}")
    monkeypatch.setattr(counter_module, "MARKER_SECONDS", 0.0)

    with pytest.raises(OutcomeUnknownError, match=PATH):
        await adding
    monkeypatch.undo()
    assert (await counter.add()).before == 2


async def test_the_outcome_is_unknown_if_the_counter_was_deleted_meanwhile(
    counter: AsyncCounter, server: FakeServer
) -> None:
    await counter.add()
    Fate(server, is_applied=True)
    adding = asyncio.create_task(counter.add())
    await eventually(lambda: not server.sessions)
    server.write(data_pb2.Write(delete=data_pb2.Delete(path=PATH, recursive=True)))

    with pytest.raises(OutcomeUnknownError):
        await adding


async def test_a_counter_that_was_deleted_begins_anew(counter: AsyncCounter, server: FakeServer) -> None:
    await counter.add(5)
    server.write(data_pb2.Write(delete=data_pb2.Delete(path=PATH, recursive=True)))

    assert (await counter.add()).after == 1


async def test_suspended_calls_wait_and_time_out(
    connect: Connect, counter: AsyncCounter, client: AsyncClient, server: FakeServer
) -> None:
    await counter.add()
    server.holds_answers = True
    with pytest.raises(RecipeTimeoutError) as caught:
        await counter.add(timeout=0.05)
    assert caught.value.may_have_been_applied
    with pytest.raises(RecipeTimeoutError) as waiting:
        await counter.add(timeout=0.05)
    assert not waiting.value.may_have_been_applied
    server.release_answers()

    assert (await counter.add()).after == 3


async def test_who_is_cancelled_before_its_turn_changes_nothing(
    counter: AsyncCounter, server: FakeServer
) -> None:
    await counter.add()
    server.holds_answers = True
    first = asyncio.create_task(counter.add())
    await eventually(lambda: held(server) == b"2")
    second = asyncio.create_task(counter.add(100))
    await asyncio.sleep(0)
    second.cancel()
    server.release_answers()
    await first

    assert (await counter.add()).after == 3


async def test_who_is_cancelled_under_way_leaves_the_counter_usable(
    counter: AsyncCounter, client: AsyncClient, server: FakeServer
) -> None:
    server.holds_answers = True
    first = asyncio.create_task(counter.add())
    await eventually(lambda: transactions(server) or len(server.frames) > 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.release_answers()
    change = await counter.add()

    assert change.after in (1, 2)
    assert held(server) == b"%d" % change.after
    await eventually(lambda: client.janitor.task_count == 0)


async def test_the_end_of_the_client_ends_the_call(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    counter = AsyncCounter(client, PATH)
    server.holds_answers = True
    adding = asyncio.create_task(counter.add())
    await asyncio.sleep(0)
    server.holds_answers = True
    await client.close()

    with pytest.raises(ClientClosedError):
        await adding
    with pytest.raises(ClientClosedError):
        await counter.add()


async def test_an_unconnected_client_says_so() -> None:
    with pytest.raises(NotConnectedError):
        await AsyncCounter(AsyncClient(), PATH).add()


async def test_who_loses_again_and_again_pauses_longer_and_gets_through(
    client: AsyncClient, server: FakeServer
) -> None:
    class Dice(random.Random):
        longest: list[float] = []  # noqa: RUF012  # one pair of dice in this test

        def uniform(self, a: float, b: float) -> float:
            self.longest.append(b)
            return 0.0

    rivals = iter(range(10, 16))

    def rival(frame: coordination_pb2.ClientFrame) -> None:
        number = next(rivals, None) if frame_transactions(frame) else None
        if number is not None:
            server.set(PATH, b"%d" % number)

    server.set(PATH, b"1")
    server.on_frame = rival
    writer = CounterWriter(client, PATH, "marker", dice=Dice())
    change = await writer.submit(Step(delta=1), 0).outcome

    assert (change.before, change.after) == (15, 16)
    assert Dice.longest == sorted(Dice.longest)
    assert len(Dice.longest) == 3, "after every second race that was lost"


async def test_what_makes_no_sense_is_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidPathError):
        AsyncCounter(client, "hits")
    with pytest.raises(InvalidArgumentError):
        AsyncCounter(client, PATH, initial=5, maximum=4)
    for fraction in ({"initial": 1.5}, {"minimum": 0.5}, {"maximum": 1.5}):
        with pytest.raises(InvalidArgumentError):
            AsyncCounter(client, PATH, **fraction)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        await AsyncCounter(client, PATH).add(1.5)  # type: ignore[arg-type]  # that is what is tested
    assert client.state is State.CONNECTED
