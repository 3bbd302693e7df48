"""An instance with health checks: what is announced, when it is written, and what it outlives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from coordclient import (
    AsyncClient,
    AsyncRegistration,
    ClientClosedError,
    InvalidArgumentError,
    LimitExceededError,
    State,
    Status,
)
from coordclient.recipes.service_checks import Check, CheckResult, Rhythm
from coordclient.recipes.service_health import CallableCheck, TtlCheck
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import Code, FakeServer

PATH = "/services/api/x"
PASSING, WARNING, CRITICAL, DRAINING = Status.PASSING, Status.WARNING, Status.CRITICAL, Status.DRAINING


class ScriptedCheck(Check):
    """A check that finds what the test says."""

    label = "scripted"

    def __init__(self) -> None:
        self.tell: Callable[[CheckResult], None] = lambda _: None
        self.is_running = False

    def finds(self, status: Status, note: str = "") -> None:
        self.tell(CheckResult(status, note))

    async def run(self, tell: Callable[[CheckResult], None], rhythm: Rhythm) -> None:
        self.tell = tell
        self.is_running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False


class Announced:
    """What the service knows of the instance."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def __call__(self) -> tuple[str, str] | None:
        """Return the status and the note."""
        node = self._server.tree.nodes.get(PATH)
        if node is None:
            return None
        content = json.loads(node.value)
        return content["status"], content["note"]

    @property
    def writes(self) -> int:
        return self._server.tree.nodes[PATH].stat.version


@pytest.fixture
def announced(server: FakeServer) -> Announced:
    return Announced(server)


@pytest.fixture
async def check() -> ScriptedCheck:
    return ScriptedCheck()


async def register(
    client: AsyncClient, check: ScriptedCheck, status: Status = Status.PASSING
) -> AsyncRegistration:
    """Register an instance with a check that has begun."""
    registration = await client.services.register("api", "h", 1, id="x", health=check, status=status)
    await eventually(lambda: check.is_running)
    return registration


# ---------------------------------------------------------------------------------------------
# What is announced


async def test_an_instance_with_a_check_is_critical_until_it_was_checked(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    assert announced() == ("critical", "not checked yet")
    assert registration.status is CRITICAL
    check.finds(PASSING, "all well")
    await eventually(lambda: announced() == ("passing", "all well"))

    (instance,) = await client.services.discover("api", passing=True)
    assert (instance.status, instance.note) == (PASSING, "all well")


async def test_a_first_failure_is_announced_with_its_reason(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    await register(client, check)
    check.finds(CRITICAL, "no database")

    await eventually(lambda: announced() == ("critical", "no database"))


async def test_only_changes_are_written(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    await register(client, check)
    for status in (PASSING, PASSING, PASSING, WARNING, WARNING):
        check.finds(status, f"{status.value} at some time")
        await client.sync()
    await eventually(lambda: announced() == ("warning", "warning at some time"))

    assert announced.writes == 2


async def test_the_worst_of_the_check_and_the_programs_word_counts(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check, WARNING)
    check.finds(PASSING, "all well")
    await eventually(lambda: announced() == ("warning", ""))
    check.finds(CRITICAL, "broken")
    await eventually(lambda: announced() == ("critical", "broken"))
    await registration.set_status(PASSING)
    assert announced() == ("critical", "broken")
    check.finds(PASSING)

    await eventually(lambda: announced() == ("passing", ""))


async def test_draining_is_the_programs_last_word(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    check.finds(PASSING)
    await registration.set_status(DRAINING)
    for status in (CRITICAL, PASSING):
        check.finds(status, "whatever")
    await client.sync()

    assert announced() == ("draining", "")
    assert registration.status is DRAINING


async def test_an_update_keeps_what_the_check_has_found(
    client: AsyncClient, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    check.finds(WARNING, "slow")
    await registration.update(payload={"load": 3}, tags=["blue"], weight=7, port=2)
    (instance,) = await client.services.discover("api")

    assert (instance.status, instance.note) == (WARNING, "slow")
    assert (instance.payload, instance.tags, instance.weight, instance.port) == ({"load": 3}, ("blue",), 7, 2)
    assert "warning" in repr(registration)


async def test_a_refused_update_changes_nothing_and_does_not_stop_the_health(
    client: AsyncClient, server: FakeServer, announced: Announced, check: ScriptedCheck
) -> None:
    """The value was too large for the service. What the checks find later must not carry it on."""
    registration = await register(client, check)
    update = asyncio.create_task(registration.update(payload={"large": "x" * (3 << 20)}, weight=7))
    await asyncio.sleep(0)  # It has noted what it wants, and is not refused yet.
    check.finds(PASSING, "found meanwhile")
    with pytest.raises(LimitExceededError):
        await update
    await eventually(lambda: announced() == ("passing", "found meanwhile"))

    (instance,) = await client.services.discover("api")
    assert (instance.payload, instance.weight) == ({}, 1)
    check.finds(CRITICAL, "later")
    await eventually(lambda: announced() == ("critical", "later"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "fine"},
        {"tags": "blue"},
        {"tags": [""]},
        {"weight": 0},
        {"weight": 70000},
        {"health": 17},
        {"health": [None]},
    ],
)
async def test_what_makes_no_sense_is_refused(
    client: AsyncClient, server: FakeServer, wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgumentError):
        await client.services.register("api", "h", 1, **wrong)  # type: ignore[arg-type]  # that is what is tested

    assert server.names("/services/api") == []


async def test_a_status_may_be_given_as_its_text(client: AsyncClient, announced: Announced) -> None:
    registration = await client.services.register("api", "h", 1, id="x", status="warning")  # type: ignore[arg-type]  # Status is a str
    assert announced() == ("warning", "")
    with pytest.raises(InvalidArgumentError, match="there are passing, warning, critical, draining"):
        await registration.set_status("UP")  # type: ignore[arg-type]  # that is what is tested


# ---------------------------------------------------------------------------------------------
# What it outlives


async def test_checks_go_on_over_a_lost_session_and_the_status_comes_back(
    client: AsyncClient, server: FakeServer, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    check.finds(WARNING, "slow")
    await eventually(lambda: announced() == ("warning", "slow"))
    former = client.session_id
    server.expire(former)
    await eventually(lambda: registration.is_registered and client.session_id != former)
    assert announced() == ("warning", "slow")
    assert check.is_running
    check.finds(PASSING)

    await eventually(lambda: announced() == ("passing", ""))


async def test_what_checks_find_while_nobody_can_be_reached_is_announced_afterwards(
    connect: Connect, server: FakeServer, announced: Announced, check: ScriptedCheck
) -> None:
    client = await connect(session_timeout=30.0)
    await register(client, check)
    check.finds(PASSING)
    await eventually(lambda: announced() == ("passing", ""))
    server.refuse_attaches = [Code.NO_LEADER] * 1000
    server.drop_connections()
    await eventually(lambda: client.state is State.SUSPENDED)
    check.finds(CRITICAL, "broken")
    check.finds(WARNING, "half broken")
    server.refuse_attaches.clear()

    await eventually(lambda: announced() == ("warning", "half broken"))


async def test_the_health_of_a_node_that_an_operator_deleted_comes_back_with_it(
    client: AsyncClient, server: FakeServer, announced: Announced, check: ScriptedCheck
) -> None:
    await register(client, check)
    check.finds(WARNING, "slow")
    await eventually(lambda: announced() == ("warning", "slow"))
    await client.delete(PATH)

    await eventually(lambda: announced() == ("warning", "slow"))


async def test_a_check_that_misbehaves_does_not_end_the_registration(
    client: AsyncClient, announced: Announced
) -> None:
    async def misbehave() -> None:
        raise RuntimeError("no")

    health = CallableCheck(misbehave, interval=0.001)
    async with await client.services.register("api", "h", 1, id="x", health=health) as registration:
        await eventually(lambda: announced() == ("critical", "RuntimeError: no"))
        assert registration.is_registered


async def test_a_program_that_feeds_its_ttl_is_passing(client: AsyncClient, announced: Announced) -> None:
    alive = TtlCheck(60)
    async with await client.services.register("api", "h", 1, id="x", health=alive):
        alive.passing("42 jobs done")
        await eventually(lambda: announced() == ("passing", "42 jobs done"))


# ---------------------------------------------------------------------------------------------
# The end


async def test_closing_ends_the_checks_and_all_tasks(
    client: AsyncClient, server: FakeServer, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    await registration.close()
    await registration.close()

    assert not check.is_running
    assert client.janitor.task_count == 0
    check.finds(PASSING, "too late")
    await client.sync()
    assert server.names("/services/api") == []


async def test_closing_the_client_ends_the_checks(connect: Connect, check: ScriptedCheck) -> None:
    client = await connect()
    await register(client, check)
    await client.close()

    assert not check.is_running
    check.finds(PASSING, "too late")


async def test_a_registration_that_is_given_up_starts_no_check(
    client: AsyncClient, server: FakeServer, check: ScriptedCheck
) -> None:
    server.holds_answers = True
    task = asyncio.create_task(client.services.register("api", "h", 1, id="x", health=check))
    await eventually(lambda: server.frames)
    task.cancel()
    await asyncio.wait([task])
    server.release_answers()
    await eventually(lambda: client.janitor.task_count == 0)

    assert not check.is_running


async def test_giving_up_ends_the_checks_too(
    client: AsyncClient, server: FakeServer, check: ScriptedCheck
) -> None:
    """A thread was interrupted after the registration had succeeded: nobody has it in hand to close it."""
    registration = await register(client, check)
    registration.give_up()
    await eventually(lambda: client.janitor.task_count == 0)

    assert not check.is_running
    assert server.names("/services/api") == []


async def test_draining_says_so_waits_and_closes(
    client: AsyncClient, server: FakeServer, announced: Announced, check: ScriptedCheck
) -> None:
    registration = await register(client, check)
    check.finds(PASSING)
    draining = asyncio.create_task(registration.drain(0.2))
    await eventually(lambda: announced() == ("draining", ""))
    assert not draining.done()
    await draining

    assert announced() is None
    assert not check.is_running
    await registration.drain(100)  # It is closed: nothing is left to wait for.


async def test_a_drain_that_is_cancelled_closes_at_once(
    client: AsyncClient, server: FakeServer, announced: Announced
) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    draining = asyncio.create_task(registration.drain(1000))
    await eventually(lambda: announced() == ("draining", ""))
    draining.cancel()
    await asyncio.wait([draining])

    assert draining.cancelled()
    await eventually(lambda: announced() is None)


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
async def test_a_drain_without_end_is_refused(
    client: AsyncClient, announced: Announced, seconds: float
) -> None:
    registration = await client.services.register("api", "h", 1, id="x")
    with pytest.raises(InvalidArgumentError):
        await registration.drain(seconds)

    assert announced() == ("passing", "")


async def test_a_drain_begins_to_wait_even_if_nobody_can_be_told(
    connect: Connect, server: FakeServer, announced: Announced
) -> None:
    client = await connect(session_timeout=30.0, request_timeout=1000.0)
    registration = await client.services.register("api", "h", 1, id="x")
    server.is_silent = True
    draining = asyncio.create_task(registration.drain(0.01))
    await eventually(lambda: "closed" in repr(registration))
    assert registration.status is DRAINING
    server.is_silent = False
    server.drop_connections()
    await draining

    assert announced() is None


async def test_a_closed_client_says_so(connect: Connect) -> None:
    client = await connect()
    registration = await client.services.register("api", "h", 1)
    await client.close()

    with pytest.raises((ClientClosedError, InvalidArgumentError)):
        await client.services.register("api", "h", 1)
    await registration.close()
