"""A client's life: connecting, states, listeners, closing. The base of `AsyncClient`.

Rule of this file: an unusable client says so at once, it never hangs: not connected, closed, forked, or
in another event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Iterable
from threading import get_ident
from types import TracebackType
from typing import Self

from coordclient import clock, forks
from coordclient.callbacks import Callback, Callbacks, Subscriber
from coordclient.driver import SessionDriver
from coordclient.endpoints import parse_endpoints
from coordclient.errors import (
    ClientClosedError,
    ConnectionLostError,
    CoordError,
    InvalidArgumentError,
    NotConnectedError,
    WrongLoopError,
)
from coordclient.janitor import Janitor
from coordclient.pipeline import Answer, Operation
from coordclient.session import SessionCore
from coordclient.states import State

logger = logging.getLogger("coordclient")

REQUEST_SECONDS = 10.0


class Lifecycle:
    """Holds the session and everything that lives and dies with the client."""

    def __init__(
        self,
        endpoints: str | Iterable[str] = "127.0.0.1:7400",
        *,
        session_timeout: float = 10.0,
        connect_timeout: float = 10.0,
        request_timeout: float = REQUEST_SECONDS,
        name: str = "",
        namespace: str = "",
        callbacks_in_threads: bool = False,
    ) -> None:
        """Prepare a client; does no I/O.

        Args:
            endpoints: Members to connect to, "host:port,host:port" or a list; they are tried in random order.
            session_timeout: Seconds after which the service gives a silent session up; it may clamp this.
            connect_timeout: Seconds that `connect` waits at most.
            request_timeout: Seconds that a request waits at most, unless it says otherwise.
            name: Shown to operators in lists of sessions; the default is the host's name.
            namespace: A path, like "/prod/billing", below which all paths of this client lie.
        """
        if not 0 < session_timeout < math.inf:
            raise InvalidArgumentError("session_timeout must be a positive number of seconds")
        if namespace and (not namespace.startswith("/") or namespace.endswith("/")):
            raise InvalidArgumentError('namespace must start with "/" and not end with it', path=namespace)
        self._endpoints = parse_endpoints(endpoints)
        self._session_timeout_ms = max(1, round(session_timeout * 1000))
        self._connect_timeout = connect_timeout
        self.request_timeout = request_timeout
        self.name = name or socket.gethostname()
        self.namespace = namespace
        self.callbacks = Callbacks(in_threads=callbacks_in_threads)
        self.janitor = Janitor()
        self._listeners: dict[Callback[State], Subscriber[State]] = {}
        self._generation = forks.generation()
        self._driver: SessionDriver | None = None
        self._core: SessionCore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {','.join(self._endpoints)} {self.state.value} {self.session_id:#x}>"

    # -----------------------------------------------------------------------------------------
    # State

    @property
    def state(self) -> State:
        """Return whether the client is CONNECTED, SUSPENDED, LOST or CLOSED at this moment. Asks nobody.

        Before `connect` it is SUSPENDED. In a child that was forked from the process of the client it is
        CLOSED, since it is of no use there.
        """
        if self.is_forked:
            return State.CLOSED
        if self._core is not None:
            return self._core.state
        return State.CLOSED if self._is_closed else State.SUSPENDED

    @property
    def is_forked(self) -> bool:
        """Return whether this process was forked after the client was made, which is of no use in it then."""
        return self._generation != forks.generation()

    @property
    def session_id(self) -> int:
        """Return the id of the present session; 0 if there is none, as in a child that was forked."""
        return self._core.session_id if self._core is not None and not self.is_forked else 0

    @property
    def session_timeout(self) -> float:
        """Return the session timeout in seconds, as the service granted it; before that, as asked for."""
        return self._core.timeout_s if self._core is not None else self._session_timeout_ms / 1000

    @property
    def valid_until(self) -> float:
        """Return until when the session is certainly alive, in seconds of `coordclient.clock.now()`.

        Minus infinity if there is none. Each renewal moves it on; it counts from when that was sent.
        """
        if self._core is None or self.is_forked:
            return -math.inf
        return self._core.valid_until

    @property
    def is_session_valid(self) -> bool:
        """Return whether the session is certainly alive at this moment."""
        return clock.now() < self.valid_until

    @property
    def member(self) -> str:
        """Return the name of the member that the client was last attached to; empty before the first time."""
        return self._core.member if self._core is not None else ""

    @property
    def last_zxid(self) -> int:
        """Return the newest transaction that this client has seen; pass it on as another's `min_zxid=`."""
        return self._core.last_zxid if self._core is not None else 0

    def add_listener(self, listener: Callback[State]) -> None:
        """Call `listener(state)` at every change of state, in order, away from the I/O path."""
        if listener not in self._listeners:
            self._listeners[listener] = self.callbacks.subscriber(listener)

    def remove_listener(self, listener: Callback[State]) -> None:
        """Call a listener no more. Idempotent."""
        self._listeners.pop(listener, None)

    def add_internal_listener(self, listener: Callable[[State], None]) -> None:
        """For recipes: call `listener(state)` at once, on the loop. It must not block or raise."""
        self._running_driver().add_listener(listener)

    def remove_internal_listener(self, listener: Callable[[State], None]) -> None:
        """For recipes: take a listener of `add_internal_listener` back. Idempotent."""
        if self._driver is not None:
            self._driver.remove_listener(listener)

    def _tell_listeners(self, state: State) -> None:
        for subscriber in list(self._listeners.values()):
            subscriber.push(state)

    # -----------------------------------------------------------------------------------------
    # Connect and close

    async def connect(self, *, timeout: float | None = None) -> Self:
        """Open a session and return once it is there.

        Raises:
            ConnectionLostError: No member could be reached in time; the message says why for the last one.
                The client is closed then.
            ForkedClientError: The client was made before a fork, or gRPC was in use at the time of the fork.
        """
        self._check_usable()
        if self._driver is None:
            forks.check_grpc()
            self._loop = asyncio.get_running_loop()
            self._thread = get_ident()
            self._core = SessionCore(timeout_ms=self._session_timeout_ms, client_name=self.name)
            self._driver = self._make_driver(self._core)
            self._driver.add_listener(self._tell_listeners)
            self._driver.start()
        timeout_s = self._connect_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if timeout_s == math.inf else timeout_s):
                await self._wait_connected(self._driver)
        except TimeoutError:
            reason = self._driver.last_failure or "no answer"
            await self.close()
            raise ConnectionLostError(
                f"could not connect to {', '.join(self._endpoints)} within {timeout_s:g} s: {reason}"
            ) from None
        except BaseException:
            await self.close()
            raise
        return self

    def _make_driver(self, core: SessionCore) -> SessionDriver:
        """Make the driver; simulated clients give it a network of their own."""
        return SessionDriver(core, self._endpoints)

    async def _wait_connected(self, driver: SessionDriver) -> None:
        changed = asyncio.Event()

        def note(_: State) -> None:
            changed.set()

        driver.add_listener(note)
        try:
            while driver.core.state is not State.CONNECTED:
                if driver.core.state is State.CLOSED:
                    raise ClientClosedError
                changed.clear()
                await changed.wait()
        finally:
            driver.remove_listener(note)

    async def close(self) -> None:
        """End the session and let everything go. Idempotent, bounded in time, safe in `finally`.

        Raises:
            WrongLoopError: The client belongs to another event loop, which is running: close it there.
        """
        if self._is_closed:
            return
        forks.check(self._generation)
        self._check_loop()
        self._is_closed = True
        try:
            await self.janitor.close()
        finally:
            if self._driver is not None:
                await self._driver.close()
        await asyncio.sleep(0)  # Lets listeners hear of CLOSED before their tasks end.
        await self.callbacks.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _check_usable(self) -> None:
        forks.check(self._generation)
        if self._is_closed:
            raise ClientClosedError
        self._check_loop()

    def _check_loop(self) -> None:
        if (
            self._loop is not None
            and self._loop is not asyncio.get_running_loop()
            and self._loop.is_running()
        ):
            raise WrongLoopError

    def _running_driver(self) -> SessionDriver:
        """Return the driver of a client that can be used here and now; raise what is wrong otherwise."""
        if self._generation != forks.generation():
            forks.check(self._generation)
        driver = self._driver
        if driver is None or self._is_closed or driver.core.state is State.CLOSED:
            raise ClientClosedError if self._is_closed or driver is not None else NotConnectedError
        loop = self._loop
        # The running loop of this thread, asked for without `get_running_loop`: that is a system call.
        if get_ident() != self._thread or loop is None or not loop.is_running():
            raise WrongLoopError
        return driver

    # -----------------------------------------------------------------------------------------
    # Operations

    def _deadline(self, timeout: float | None) -> float:
        return clock.now() + (self.request_timeout if timeout is None else timeout)

    async def _perform(self, operation: Operation) -> Answer:
        """Send an operation and wait for its answer, which is not an error."""
        driver = self._running_driver()
        assert self._loop is not None
        waiter: asyncio.Future[Answer | CoordError] = self._loop.create_future()
        operation.waiter = waiter
        driver.submit(operation)
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            driver.core.abandon(operation)
            driver.wake()
            raise
        if isinstance(outcome, CoordError):
            raise outcome
        if outcome.HasField("error"):
            raise self._error(outcome)
        return outcome

    def _error(self, answer: Answer) -> CoordError:
        raise NotImplementedError
