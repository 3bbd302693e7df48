"""Health checks of an instance: over HTTP, TCP and gRPC, a function, or the program's own word in time.

Rule of this file: each kind only says what it saw. When to ask, and for how long, is decided in
`service_checks.py`; nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from coordclient import clock
from coordclient.errors import InvalidArgumentError
from coordclient.recipes.service_checks import Check, CheckResult, PeriodicCheck, Rhythm, Tell, check_positive
from coordclient.recipes.service_http import HttpRequest, ask, http_request
from coordclient.types import Status

HEALTH_CHECK = "/grpc.health.v1.Health/Check"


# ---------------------------------------------------------------------------------------------
# Over the network


@dataclass(frozen=True)
class HttpCheck(PeriodicCheck):
    """An HTTP request, judged as Consul does: 2xx is passing, 429 a warning, everything else critical.

    Redirects are not followed. The beginning of the body becomes the note, which everybody can read who may
    discover the service.

    Args:
        url: `http://` or `https://`.
        method: GET by default; HEAD if the body is long.
        headers: Sent with the request, for instance an Authorization.
        tls: For `https://`: how to verify the server, and what to show it; by default the system's
            certificates.
    """

    url: str
    method: str = field(default="GET", kw_only=True)
    headers: Mapping[str, str] | None = field(default=None, kw_only=True, repr=False, hash=False)
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        http_request(self.url, self.method, self.headers or {})  # Raises if it cannot be made.

    @cached_property
    def _request(self) -> HttpRequest:
        return http_request(self.url, self.method, self.headers or {})

    @cached_property
    def _context(self) -> ssl.SSLContext | None:
        if not self._request.is_encrypted or self.tls is not None:
            return self.tls
        return ssl.create_default_context()

    @property
    def label(self) -> str:
        """Return what the check is called with its results: the name, or the method and the URL."""
        return self.name or f"{self.method} {self.url}"

    async def probe(self) -> CheckResult:
        """Send one request. 2xx passes, 429 is a warning, all else critical."""
        answer = await ask(self._request, self._context)
        status = Status.CRITICAL
        if 200 <= answer.code < 300:
            status = Status.PASSING
        elif answer.code == 429:
            status = Status.WARNING
        words = f"HTTP {answer.code} {answer.reason}".rstrip()
        if 300 <= answer.code < 400:
            words += " (redirects are not followed)"
        body = answer.body.decode("utf-8", "replace").strip()
        return CheckResult(status, f"{words}: {body}" if body else words)


@dataclass(frozen=True)
class TcpCheck(PeriodicCheck):
    """Passing if a connection can be made to `address`, which is "host:port"."""

    address: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _host_and_port(self.address)

    @property
    def label(self) -> str:
        """Return what the check is called with its results: the name, or the address."""
        return self.name or f"tcp {self.address}"

    async def probe(self) -> CheckResult:
        """Open one connection and close it again. It passes if that can be done."""
        host, port = _host_and_port(self.address)
        _, writer = await asyncio.open_connection(host, port)
        writer.transport.abort()
        return CheckResult(Status.PASSING, f"connected to {self.address}")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidArgumentError(f'{address!r} must be "host:port"')
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(frozen=True)
class GrpcCheck(PeriodicCheck):
    """Asks the standard health service, `grpc.health.v1`: SERVING is passing, everything else critical.

    Args:
        target: "host:port", or whatever gRPC takes for a target.
        service: Which service of the server is asked about; "" is the server as a whole.
        credentials: For TLS; without them the connection is not encrypted.
    """

    target: str
    service: str = ""
    credentials: grpc.ChannelCredentials | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target:
            raise InvalidArgumentError('a target like "host:port" is needed')

    @property
    def label(self) -> str:
        """Return what the check is called with its results: the name, or the target and the service."""
        return self.name or f"grpc {self.target}/{self.service}".removesuffix("/")

    async def probe(self) -> CheckResult:
        """Ask the health service (grpc.health.v1) once. It passes if the answer is SERVING."""
        async with self._channel() as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[
                health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            ]
            check = channel.unary_unary(
                HEALTH_CHECK,
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await check(
                    health_pb2.HealthCheckRequest(service=self.service), timeout=self.timeout
                )
            except grpc.aio.AioRpcError as error:
                return CheckResult(Status.CRITICAL, f"{error.code().name}: {error.details()}")
        is_serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return CheckResult(Status.PASSING if is_serving else Status.CRITICAL, name)

    def _channel(self) -> grpc.aio.Channel:
        # A channel of its own each time: no back-off of an earlier failure hides that the server is back.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self.credentials, options=options)


# ---------------------------------------------------------------------------------------------
# In the program

Verdict: TypeAlias = "Status | str | bool | None"
Function: TypeAlias = "Callable[[], Verdict] | Callable[[], Awaitable[Verdict]]"


@dataclass(frozen=True)
class CallableCheck(PeriodicCheck):
    """Calls a function of the program: raising is critical; None and True are passing, False is critical.

    It may also return a `Status` other than DRAINING. A coroutine function runs on the client's event loop
    and must not block it. A plain function runs in a thread of its own and may block; one that does not
    return in time counts as failed, and is not called again before it has returned.
    """

    function: Function
    _threads: list[asyncio.Future[object]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given: object = self.function
        if not callable(given):
            raise InvalidArgumentError(f"{given!r} cannot be called: give a function, not what it returned")

    @property
    def label(self) -> str:
        """Return what the check is called with its results: the name, or that of the function."""
        return self.name or getattr(self.function, "__qualname__", "") or type(self.function).__name__

    async def probe(self) -> CheckResult:
        """Call the function once: a plain one in a thread, a coroutine function on the loop."""
        if self._threads:
            return CheckResult(Status.CRITICAL, "the call before has not returned yet")
        try:
            verdict = self.function() if self._is_asynchronous else await self._call_in_thread()
            if inspect.isawaitable(verdict):
                verdict = await verdict
        except SystemExit as error:  # It would end the event loop.
            raise RuntimeError(f"the check wanted to end the program: {error!r}") from None
        return _judged(verdict)

    @property
    def _is_asynchronous(self) -> bool:
        call = getattr(type(self.function), "__call__", None)  # noqa: B004  # an object's may be asynchronous
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    async def _call_in_thread(self) -> object:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        done.add_done_callback(self._threads.remove)
        self._threads.append(done)

        def run() -> None:
            result: object = None
            failure: BaseException | None = None
            try:
                result = self.function()
            except BaseException as error:  # noqa: BLE001  # all of them are what the check found
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, done, result, failure)

        # A daemon: a check that never returns must not keep the program from ending.
        threading.Thread(target=run, name="coordclient check", daemon=True).start()
        await asyncio.wait([done])  # Not `await done`: a cancellation is ours, the thread goes on.
        return done.result()


def _settle(done: asyncio.Future[object], result: object, failure: BaseException | None) -> None:
    if failure is None:
        done.set_result(result)
        return
    # A future cannot carry StopIteration, and what is no Exception would end the loop.
    is_plain = isinstance(failure, Exception) and not isinstance(failure, StopIteration)
    done.set_exception(failure if is_plain else RuntimeError(repr(failure)))
    done.exception()  # Fetched here: nobody may wait for it any more.


def _judged(verdict: object) -> CheckResult:
    if verdict is None or verdict is True:
        return CheckResult(Status.PASSING)
    if verdict is False:
        return CheckResult(Status.CRITICAL, "the check returned False")
    status = Status(verdict) if isinstance(verdict, str) and verdict in tuple(Status) else None
    if status is None or status is Status.DRAINING:
        raise TypeError(f"a check returns None, a bool, passing, warning or critical, not {verdict!r}")
    return CheckResult(status, "" if status is Status.PASSING else f"the check returned {status.value}")


class TtlCheck(Check):
    """The program itself says how it is; if it says nothing for `ttl` seconds, it is critical.

    `passing`, `warning` and `critical` may be called from any thread, before and after the registration.
    They only note what they are told, and return at once.
    """

    def __init__(self, ttl: float, *, name: str = "") -> None:
        """Describe the check; `ttl` is in seconds."""
        check_positive("ttl", ttl)
        self.ttl = ttl
        self.name = name
        self._lock = threading.Lock()
        self._latest: tuple[float, CheckResult] | None = None
        self._readers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def __repr__(self) -> str:
        return f"TtlCheck({self.ttl:g})"

    @property
    def label(self) -> str:
        """Return what the check is called with its results: the name, or the time that the program has."""
        return self.name or f"ttl {self.ttl:g} s"

    def passing(self, note: str = "") -> None:
        """Say that all is well, for the next `ttl` seconds."""
        self._feed(CheckResult(Status.PASSING, note))

    def warning(self, note: str = "") -> None:
        """Say that it works, but not well, for the next `ttl` seconds."""
        self._feed(CheckResult(Status.WARNING, note))

    def critical(self, note: str = "") -> None:
        """Say that it does not work."""
        self._feed(CheckResult(Status.CRITICAL, note))

    def _feed(self, result: CheckResult) -> None:
        with self._lock:
            self._latest = (clock.now(), result)
            for loop, news in self._readers:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(news.set)

    async def run(self, tell: Tell, rhythm: Rhythm) -> None:  # noqa: ARG002  # as all checks do
        """Tell what the program says, and critical when it has said nothing for `ttl` seconds."""
        news = asyncio.Event()
        reader = (asyncio.get_running_loop(), news)
        with self._lock:
            self._readers.append(reader)
        try:
            while True:
                news.clear()
                await self._tell_latest(tell, news)
        finally:
            with self._lock:
                self._readers.remove(reader)

    async def _tell_latest(self, tell: Tell, news: asyncio.Event) -> None:
        """Tell what was said last, and then, if nothing else is said in time, that."""
        latest = self._latest
        if latest is not None:
            at, result = latest
            remaining = at + self.ttl - clock.now()
            if remaining > 0:
                tell(result)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(remaining):
                        await news.wait()
            if not news.is_set():
                tell(CheckResult(Status.CRITICAL, f"nothing was heard of the program for {self.ttl:g} s"))
        await news.wait()


Health: TypeAlias = "Check | Function | Sequence[Check | Function] | None"


def checks_of(health: Health) -> tuple[Check, ...]:
    """Return the checks that `health=` stands for: none, one, or several; a function is a CallableCheck."""
    if health is None:
        return ()
    several = health if isinstance(health, Sequence) else (health,)
    return tuple(_check_of(each) for each in several)


def _check_of(one: Check | Function) -> Check:
    if isinstance(one, Check):
        return one
    if not callable(one):
        raise InvalidArgumentError(f"{one!r} is not a health check: give a Check, or a function")
    return CallableCheck(one)
