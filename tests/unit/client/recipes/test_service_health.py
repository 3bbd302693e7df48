"""Health checks against real servers, functions that misbehave, and the program's own word."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from coordclient import InvalidArgumentError, clock
from coordclient.recipes.service_checks import CheckResult, PeriodicCheck
from coordclient.recipes.service_health import (
    CallableCheck,
    GrpcCheck,
    HttpCheck,
    TcpCheck,
    TtlCheck,
    checks_of,
)
from coordclient.types import Status
from tests.unit.client.eventually import eventually
from tests.unit.client.recipes.running_checks import Running, answering, one_result

PASSING, WARNING, CRITICAL = Status.PASSING, Status.WARNING, Status.CRITICAL


# ---------------------------------------------------------------------------------------------
# How a check runs


class Scripted(PeriodicCheck):
    """A check that does what the test has it do."""

    def __init__(self, act: Callable[[], Awaitable[CheckResult]], **options: float) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # the test's to get right
        object.__setattr__(self, "act", act)

    @property
    def label(self) -> str:
        return "scripted"

    async def probe(self) -> CheckResult:
        act: Callable[[], Awaitable[CheckResult]] = self.__dict__["act"]
        return await act()


@pytest.mark.parametrize(("dice", "first"), [(0.0, 4.0), (1.0, 8.0)])
async def test_it_checks_at_once_and_only_the_first_pause_is_shortened(dice: float, first: float) -> None:
    async def well() -> CheckResult:
        return CheckResult(PASSING)

    running = Running(Scripted(well, interval=8.0), dice=dice)
    await running.result(3)
    await eventually(lambda: len(running.pauses) == 3)
    await running.close()

    assert running.pauses == [first, 8.0, 8.0]


async def test_whatever_a_check_raises_is_a_failure_and_the_checks_go_on() -> None:
    raised = iter([KeyError("x"), asyncio.CancelledError(), ValueError("bad"), OSError(111, "refused")])

    async def fail() -> CheckResult:
        raise next(raised)

    running = Running(Scripted(fail))
    notes = [(await running.result(number)).note for number in (1, 2, 3, 4)]
    await running.close()

    assert {result.status for result in running.results} == {CRITICAL}
    assert notes == ["KeyError: 'x'", "the check was cancelled", "ValueError: bad", notes[3]]
    assert "refused" in notes[3]


async def test_a_check_that_returns_nonsense_is_a_failure() -> None:
    async def nonsense() -> CheckResult:
        return "fine"  # type: ignore[return-value]  # that is what is tested

    result = await one_result(Scripted(nonsense))

    assert result == CheckResult(CRITICAL, "the check gave 'fine' instead of a CheckResult")


def test_what_cannot_be_checked_is_refused_at_once() -> None:
    """A function that was called instead of named would make the instance critical for ever."""
    with pytest.raises(InvalidArgumentError, match="give a function"):
        CallableCheck(True)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(InvalidArgumentError, match="host:port"):
        GrpcCheck("")


def test_secrets_in_headers_are_not_shown() -> None:
    assert "secret" not in repr(HttpCheck("http://host/", headers={"Authorization": "secret"}))


async def test_a_check_that_hangs_has_failed_and_is_begun_anew() -> None:
    begun = 0

    async def hang() -> CheckResult:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()
        raise AssertionError

    running = Running(Scripted(hang, timeout=0.01))
    assert await running.result(2) == CheckResult(CRITICAL, "no result within 0.01 s")
    await running.close()

    assert begun == 2


async def test_a_check_that_will_not_end_is_not_begun_a_second_time() -> None:
    begun = 0
    may_end = asyncio.Event()

    async def stubborn() -> CheckResult:
        nonlocal begun
        begun += 1
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue
        return CheckResult(PASSING)

    running = Running(Scripted(stubborn, timeout=0.01))
    assert "has not ended" in (await running.result(3)).note
    assert begun == 1
    may_end.set()
    assert (await running.result(4)).status is PASSING or (await running.result(5)).status is PASSING
    await running.close()


async def test_stopping_does_not_wait_for_a_check_that_will_not_end() -> None:
    begun, may_end, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn() -> CheckResult:
        begun.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                stopped.set()
        raise ValueError("nobody hears of this")

    running = Running(Scripted(stubborn))
    await begun.wait()
    await running.close()
    await stopped.wait()

    may_end.set()
    assert running.results == []


def test_notes_are_cut() -> None:
    assert CheckResult(PASSING, "  " + "x" * 5000).note == "x" * 500


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"interval": float("inf")},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"critical_after": 0},
        {"passing_after": 0},
    ],
)
def test_rhythms_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError):
        TcpCheck("127.0.0.1:1", **wrong)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(InvalidArgumentError):
        TtlCheck(wrong.get("interval", 0))


# ---------------------------------------------------------------------------------------------
# TCP and gRPC


async def test_a_port_that_accepts_is_passing() -> None:
    async with answering(b"") as (port, _):
        assert (await one_result(TcpCheck(f"127.0.0.1:{port}"))).status is PASSING
        assert (await one_result(TcpCheck(f"localhost:{port}"))).status is PASSING


@pytest.mark.parametrize("address", ["host", "host:", ":80", "host:http", "host:0", "host:70000"])
def test_addresses_that_are_none_are_refused_at_once(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="host:port"):
        TcpCheck(address)


@asynccontextmanager
async def health_service() -> AsyncIterator[tuple[str, health.aio.HealthServicer]]:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(None)


async def test_the_standard_health_service_is_asked() -> None:
    async with health_service() as (target, servicer):
        await servicer.set("shop", health_pb2.HealthCheckResponse.NOT_SERVING)

        assert await one_result(GrpcCheck(target)) == CheckResult(PASSING, "SERVING")
        assert await one_result(GrpcCheck(target, "shop")) == CheckResult(CRITICAL, "NOT_SERVING")
        unknown = await one_result(GrpcCheck(target, "nothing"))
        assert (unknown.status, unknown.note[:9]) == (CRITICAL, "NOT_FOUND")


async def test_a_grpc_server_that_comes_back_is_seen_at_once() -> None:
    """No back-off of gRPC's own hides it."""
    async with health_service() as (target, _):
        pass
    running = Running(GrpcCheck(target))
    for number in (1, 2, 3):
        result = await running.result(number)
        assert (result.status, result.note[:11]) == (CRITICAL, "UNAVAILABLE")
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(target)
    await server.start()

    assert (await running.result(4)).status is PASSING
    await running.close()
    await server.stop(None)


async def test_a_server_without_a_health_service_is_critical() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    result = await one_result(GrpcCheck(f"127.0.0.1:{port}"))
    await server.stop(None)

    assert (result.status, result.note[:13]) == (CRITICAL, "UNIMPLEMENTED")


# ---------------------------------------------------------------------------------------------
# Functions


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (None, PASSING),
        (True, PASSING),
        (False, CRITICAL),
        (WARNING, WARNING),
        ("critical", CRITICAL),
        (Status.DRAINING, CRITICAL),
        ("fine", CRITICAL),
        (17, CRITICAL),
    ],
)
async def test_what_a_function_returns(verdict: Status | bool | None, status: Status) -> None:
    async def asynchronous() -> Status | bool | None:
        return verdict

    def plain() -> Status | bool | None:
        return verdict

    assert (await one_result(CallableCheck(asynchronous))).status is status
    assert (await one_result(CallableCheck(plain))).status is status
    assert (await one_result(CallableCheck(lambda: asynchronous()))).status is status


async def test_plain_functions_run_in_a_thread_and_coroutine_functions_on_the_loop() -> None:
    threads: list[int] = []

    def plain() -> None:
        threads.append(threading.get_ident())

    async def asynchronous() -> None:
        threads.append(threading.get_ident())

    class Callable:
        async def __call__(self) -> None:
            threads.append(threading.get_ident())

    for function in (plain, asynchronous, Callable()):
        await one_result(CallableCheck(function))

    assert threads[0] != threading.get_ident()
    assert threads[1:] == [threading.get_ident()] * 2


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), StopIteration("no")])
async def test_a_function_may_raise_anything(error: BaseException) -> None:
    def plain() -> None:
        raise error

    async def asynchronous() -> None:
        raise error

    assert (await one_result(CallableCheck(plain))).status is CRITICAL
    assert (await one_result(CallableCheck(asynchronous))).status is CRITICAL


async def test_a_function_that_blocks_holds_up_nobody_and_is_called_once() -> None:
    may_return = threading.Event()
    calls: list[None] = []

    def block() -> None:
        calls.append(None)
        may_return.wait(30)

    running = Running(CallableCheck(block, timeout=0.01))
    assert (await running.result(1)).note == "no result within 0.01 s"
    assert (await running.result(2)).note == "the call before has not returned yet"
    assert len(calls) == 1
    may_return.set()
    number = 2
    while running.results[-1].status is not PASSING:
        number += 1
        await running.result(number)
    await running.close()

    assert len(calls) > 1


# ---------------------------------------------------------------------------------------------
# The program's own word


async def test_what_the_program_says_is_told() -> None:
    check = TtlCheck(60)
    running = Running(check)
    check.passing("42 jobs done")
    await eventually(lambda: len(running.results) == 1)
    thread = threading.Thread(target=check.warning, args=("slow",))
    thread.start()
    thread.join()
    await eventually(lambda: len(running.results) == 2)
    check.critical("broken")
    await eventually(lambda: len(running.results) == 3)
    await running.close()

    assert running.results == [
        CheckResult(PASSING, "42 jobs done"),
        CheckResult(WARNING, "slow"),
        CheckResult(CRITICAL, "broken"),
    ]


async def test_saying_nothing_for_too_long_is_critical_until_something_is_said() -> None:
    check = TtlCheck(0.05)
    running = Running(check)
    check.passing()
    await eventually(lambda: len(running.results) == 2)
    assert running.results[1] == CheckResult(CRITICAL, "nothing was heard of the program for 0.05 s")
    check.passing()
    await eventually(lambda: len(running.results) >= 3)
    assert running.results[2].status is PASSING
    await running.close()


async def test_what_was_said_before_the_start_counts_unless_it_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh, old = TtlCheck(60), TtlCheck(10)
    fresh.passing("ready")
    old.passing("ready")
    later = clock.now() + 20
    monkeypatch.setattr(clock, "now", lambda: later)
    told_fresh, told_old = Running(fresh), Running(old)
    await eventually(lambda: told_fresh.results and told_old.results)
    await told_fresh.close()
    await told_old.close()

    assert [result.status for result in told_fresh.results] == [PASSING]
    assert [result.status for result in told_old.results] == [CRITICAL]


async def test_two_instances_may_share_the_word_of_the_program() -> None:
    check = TtlCheck(60)
    one, other = Running(check), Running(check)
    await eventually(lambda: len(check._readers) == 2)
    check.passing()
    await eventually(lambda: one.results and other.results)
    await one.close()
    await other.close()

    assert check._readers == []


# ---------------------------------------------------------------------------------------------
# What health= takes


def test_health_is_nothing_a_check_a_function_or_several() -> None:
    def probe() -> None: ...

    check = TtlCheck(1)
    assert checks_of(None) == ()
    assert checks_of(check) == (check,)
    assert checks_of(probe) == (CallableCheck(probe),)
    assert checks_of([check, probe]) == (check, CallableCheck(probe))
    assert [each.label for each in checks_of([check, probe])] == ["ttl 1 s", CallableCheck(probe).label]
    with pytest.raises(InvalidArgumentError, match="not a health check"):
        checks_of(17)  # type: ignore[arg-type]  # that is what is tested
