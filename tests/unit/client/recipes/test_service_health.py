"""Health checks against real servers, functions that misbehave, and the program's own word."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from coordclient import InvalidArgumentError, clock
from coordclient.recipes.service_checks import CheckResult, PeriodicCheck, Rhythm
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

PASSING, WARNING, CRITICAL = Status.PASSING, Status.WARNING, Status.CRITICAL
CERTIFICATE = Path(__file__).parents[2] / "transport" / "localhost.pem"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Running:
    """A check that runs, and its results. Pauses end when the test says so."""

    def __init__(self, check: PeriodicCheck | TtlCheck, *, dice: float = 0.0) -> None:
        self.results: list[CheckResult] = []
        self.pauses: list[float] = []
        self._next = asyncio.Event()
        self._task = asyncio.create_task(check.run(self.results.append, Rhythm(self._pause, lambda: dice)))

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._next.clear()
        await self._next.wait()

    def go_on(self) -> None:
        self._next.set()

    async def result(self, number: int = 1) -> CheckResult:
        """Return the result of this number, counted from 1."""
        while len(self.results) < number:
            await self._another(len(self.results) + 1)
        return self.results[number - 1]

    async def _another(self, count: int) -> None:
        self.go_on()
        await eventually(lambda: len(self.results) >= count)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def one_result(check: PeriodicCheck) -> CheckResult:
    """Run a check until its first result."""
    running = Running(check)
    result = await running.result()
    await running.close()
    return result


@asynccontextmanager
async def listening(serve: Serve, encrypted: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve TCP connections on a free port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=encrypted)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def answering(
    answer: bytes, *, then_hang: bool = False, encrypted: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve one fixed HTTP answer; yield the port, and the requests as they come."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if then_hang:
            await asyncio.Event().wait()

    async with listening(serve, encrypted) as port:
        yield port, requests


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
# HTTP


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (b"200 OK", PASSING),
        (b"204 No Content", PASSING),
        (b"299 Fine", PASSING),
        (b"429 Too Many Requests", WARNING),
        (b"302 Found", CRITICAL),
        (b"404 Not Found", CRITICAL),
        (b"500 Oh", CRITICAL),
        (b"503", CRITICAL),
    ],
)
async def test_http_codes_mean_what_they_mean_in_consul(code: bytes, status: Status) -> None:
    async with answering(b"HTTP/1.1 " + code + b"\r\nContent-Length: 0\r\n\r\n") as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}/health"))

    assert result.status is status
    assert result.note.startswith(f"HTTP {code.decode()}")


async def test_what_is_asked_for_is_sent() -> None:
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n") as (port, requests):
        headers = {"Authorization": "Bearer x", "user-agent": "me"}
        await one_result(HttpCheck(f"http://127.0.0.1:{port}?deep=1", method="HEAD", headers=headers))

    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "HEAD /?deep=1 HTTP/1.1"
    assert set(lines[1:]) >= {f"Host: 127.0.0.1:{port}", "Authorization: Bearer x", "user-agent: me"}
    assert not any(line.startswith("User-Agent") for line in lines)


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", "HTTP 200 OK: hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP 200 OK: until the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n4\r\n two\r\n0\r\n\r\n",
            "HTTP 200 OK: one two",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nlate", "HTTP 200 OK: late"),
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\n\xff", "HTTP 200 OK: \ufffd"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off", "HTTP 200 OK: cut off"),
    ],
)
async def test_the_body_becomes_the_note(answer: bytes, note: str) -> None:
    async with answering(answer) as (port, _):
        assert await one_result(HttpCheck(f"http://127.0.0.1:{port}")) == CheckResult(PASSING, note)


@pytest.mark.parametrize(
    "framing", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 999999999\r\n"]
)
async def test_a_body_without_end_is_read_only_at_its_beginning(framing: bytes) -> None:
    size = b"ffffff\r\n" if b"chunked" in framing else b""
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + size + b"x" * 100_000
    async with answering(answer, then_hang=True) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}", timeout=30))

    assert result.status is PASSING
    assert result.note.startswith("HTTP 200 OK: xxx")
    assert len(result.note) == 500


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
async def test_what_does_not_speak_http_is_critical(answer: bytes) -> None:
    async with answering(answer) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}"))

    assert result.status is CRITICAL
    assert result.note


async def test_a_server_that_never_answers_is_critical() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n", then_hang=True) as (port, _):
        result = await one_result(HttpCheck(f"http://127.0.0.1:{port}", timeout=0.05))

    assert result == CheckResult(CRITICAL, "no result within 0.05 s")


async def test_nobody_there_is_critical() -> None:
    async with answering(b"") as (port, _):
        pass
    for check in (HttpCheck(f"http://127.0.0.1:{port}"), TcpCheck(f"127.0.0.1:{port}")):
        result = await one_result(check)
        assert result.status is CRITICAL
        assert str(port) in result.note


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:80"},
        {"url": "ftp://host/"},
        {"url": "http://host/with space"},
        {"url": "http://host/\r\nX-Evil: 1"},
        {"url": "http://host:99999/"},
        {"url": "http://name:password@host/"},
        {"method": "GET / HTTP/1.1\r\nX-Evil:"},
        {"headers": {"X": "1\r\nX-Evil: 1"}},
        {"headers": {"X Y": "1"}},
    ],
)
def test_requests_that_cannot_be_made_are_refused_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        HttpCheck(**{"url": "http://host/", **wrong})  # type: ignore[arg-type]  # that is what is tested


async def test_https_trusts_whom_it_is_told_to_trust() -> None:
    encrypted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encrypted.load_cert_chain(CERTIFICATE)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer, encrypted=encrypted) as (port, _):
        url = f"https://localhost:{port}/health"
        trusted = await one_result(HttpCheck(url, tls=ssl.create_default_context(cafile=CERTIFICATE)))
        stranger = await one_result(HttpCheck(url))

    assert trusted == CheckResult(PASSING, "HTTP 200 OK")
    assert stranger.status is CRITICAL
    assert "certificate verify failed" in stranger.note


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
