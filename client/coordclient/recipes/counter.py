"""Counter: an integer that many clients change, each change applied exactly once.

The node holds decimal text. A change is one transaction: the node is set if nobody has written it since it
was read, and beside it the client's marker, a child of the node, is made to name the attempt. Within a
session the service applies a write exactly once anyway; when the session is lost while an attempt is under
way, the marker tells in the next one whether it was applied. If nobody has written since, the very same
attempt is sent again, and the two cannot both succeed: so it does not matter how late the first arrives.

Rule of this file: an attempt is given up only when it is certain that it was not applied and never will be.
"""

from __future__ import annotations

import asyncio
import random
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace

from coordclient import clock
from coordclient.errors import (
    ClientClosedError,
    CoordError,
    InvalidArgumentError,
    InvalidPathError,
    InvalidValueError,
    NodeExistsError,
    NoNodeError,
    OutcomeUnknownError,
    RecipeTimeoutError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.counter_steps import (
    CounterChange,
    Outcome,
    Step,
    format_counter,
    parse_counter,
    run_steps,
)
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.faces import BlockingFace
from coordclient.transactions import TransactionBuilder
from coordclient.types import Created, Node, Stat

MARKER_SECONDS = 3600.0
PAUSE_SECONDS_MIN = 0.002
PAUSE_SECONDS_MAX = 0.25


class AsyncCounter:
    """An integer at a path. The object is only a description: any number of tasks may use it at once.

    Guarantees: every `add` and `set` that returns was applied exactly once, also if connections and
    sessions were lost meanwhile; the changes of all clients form one order, and each is told the values
    just before and after its own. Calls of one client that come while another is under way share one
    write. A counter that does not exist has the value `initial`, and is made by the first change.

    SUSPENDED: calls wait for the connection, until their `timeout`.

    LOST: what was under way is looked up in the next session, and carried out there if it was not applied.
    For that each client that changes the counter has a child of its node, which the service removes an
    hour after the last change. Only if that is gone (the client was cut off for more than half an hour, or
    somebody deleted the counter meanwhile), OutcomeUnknownError says that it cannot be known.

    A call that is cancelled or times out while it is under way may still be applied.
    """

    def __init__(
        self,
        client: Operations,
        path: str,
        *,
        initial: int = 0,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> None:
        """Describe a counter.

        Args:
            initial: Its value as long as nobody has changed it.
            minimum: The least value that this object's calls may lead to; None: any of up to 1,000 digits.
            maximum: The greatest such value.
        """
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a counter needs a path like "/counters/name"', path=path)
        for name, number in (("initial", initial), ("minimum", minimum), ("maximum", maximum)):
            if number is not None or name == "initial":
                _check_integer(number, name, path)
        if Step(minimum=minimum, maximum=maximum).is_out_of_range(initial):
            raise InvalidArgumentError(f"initial={initial} is outside of the counter's range", path=path)
        self.path = path
        self.initial = initial
        self.minimum = minimum
        self.maximum = maximum
        self._client = client
        self._writer: CounterWriter | None = None

    def __repr__(self) -> str:
        return f"<AsyncCounter {self.path}>"

    async def add(self, delta: int = 1, *, timeout: float | None = None) -> CounterChange:
        """Add to the counter, exactly once, and return the values before and after.

        Args:
            timeout: How many seconds to wait at most; None: as long as it takes.

        Raises:
            CounterRangeError: It would leave the range; nothing was changed.
            InvalidValueError: The node holds no integer; it was not touched.
            RecipeTimeoutError: Not done in time; `may_have_been_applied` says whether it was under way.
            OutcomeUnknownError: See the class.
        """
        _check_integer(delta, "delta", self.path)
        return await self._run(Step(delta=delta, minimum=self.minimum, maximum=self.maximum), timeout)

    async def value(self) -> int:
        """Return the value, as a linearizable read shows it; InvalidValueError if it is no integer."""
        try:
            node = await self._client.get(self.path)
        except NoNodeError:
            return self.initial
        return parse_counter(node.value, self.path)

    async def set(self, value: int, *, expected: int | None = None) -> CounterChange:
        """Set the counter, exactly once; with `expected` only if that is its value.

        Raises:
            CompareFailedError: It has another value than `expected`; nothing was changed.
            CounterRangeError, InvalidValueError, OutcomeUnknownError: As for `add`.
        """
        _check_integer(value, "value", self.path)
        step = Step(target=value, expected=expected, minimum=self.minimum, maximum=self.maximum)
        return await self._run(step, None)

    async def _run(self, step: Step, timeout: float | None) -> CounterChange:
        if self._writer is None:
            self._writer = _writer_of(self._client, self.path)
        call = self._writer.submit(step, self.initial)
        try:
            async with deadline(timeout, self.path):
                return await call.outcome
        except RecipeTimeoutError as error:
            error.may_have_been_applied = call.is_under_way
            raise


def _check_integer(value: object, name: str, path: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(f"{name} must be an integer, not {value!r}", path=path)


# ---------------------------------------------------------------------------------------------
# Writing


@dataclass(frozen=True, slots=True)
class Base:
    """What an attempt builds on. `mzxid` is 0 if there is no node yet."""

    value: int
    mzxid: int
    czxid: int
    has_marker: bool


@dataclass(slots=True, eq=False)
class Call:
    """One call of the application. Whoever waits for the outcome may have gone."""

    step: Step
    initial: int
    outcome: asyncio.Future[CounterChange] = field(default_factory=asyncio.Future)
    is_under_way: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One transaction, under one name however often it is sent."""

    base: Base
    after: int
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=clock.now)


class CounterWriter:
    """Carries out all calls of one client on one counter, one transaction at a time."""

    def __init__(
        self, client: Operations, path: str, marker_name: str, *, dice: random.Random | None = None
    ) -> None:
        self._client = client
        self._path = path
        self._marker = f"{path}/{marker_name}"
        self._dice = dice or random.Random()
        self._waiting: list[Call] = []
        self._batch: list[Call] = []  # what is being carried out
        self._work: asyncio.Task[None] | None = None
        self._known: Base | None = None  # what the last answer showed; somebody may have written since

    def submit(self, step: Step, initial: int) -> Call:
        """Queue a call. It is carried out with all others that wait when its turn comes."""
        call = Call(step, initial)
        self._waiting.append(call)
        if self._work is None:
            self._begin()
        return call

    async def _work_off(self) -> None:
        while batch := self._take():
            self._batch = batch
            try:
                await self._carry_out(batch)
            except CoordError as error:
                self._known = None
                _fail(batch, error)

    def _begin(self) -> None:
        self._work = self._client.janitor.start(self._work_off(), "counter")
        self._work.add_done_callback(self._work_ended)

    def _work_ended(self, work: asyncio.Task[None]) -> None:
        """Go on with what came just now; or the client was closed, perhaps before anything was begun."""
        self._work = None
        batch, self._batch = self._batch, []
        _fail(batch, ClientClosedError())
        if work.cancelled():
            _fail(self._take(), ClientClosedError())
        elif self._waiting:
            self._begin()

    def _take(self) -> list[Call]:
        """Return the calls that wait and that somebody still waits for."""
        waiting, self._waiting = self._waiting, []
        return [call for call in waiting if not call.outcome.done()]

    async def _carry_out(self, batch: list[Call]) -> None:
        failures = 0
        while batch:
            is_fresh = self._known is None
            base = self._known or await self._read(batch[0].initial)
            self._known = None
            after, outcomes = run_steps(base.value, [call.step for call in batch], self._path)
            zxid = base.mzxid
            if any(isinstance(outcome, tuple) for outcome in outcomes):
                for call in batch:
                    call.is_under_way = True
                written = await self._write(Attempt(base, after))
                is_done = written is not None
                zxid = written or 0
                failures += 1
            else:
                is_done = is_fresh  # A refusal must not rest on what somebody may have changed since.
            if is_done:
                _deliver(batch, outcomes, zxid)
                return
            for call in batch:
                call.is_under_way = False
            if failures and failures % 2 == 0:
                # After a pause we know only what was there before it, and learn more by losing once again.
                # Paused again after that, we would lose for ever to somebody who does not pause.
                await self._pause(failures)
            batch[:] = [call for call in batch if not call.outcome.done()] + self._take()

    async def _pause(self, failures: int) -> None:
        """Let others go first: the more often we lost, the longer."""
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2**failures)
        await asyncio.sleep(self._dice.uniform(0, longest))

    async def _read(self, initial: int) -> Base:
        """Return what is there now."""
        while True:
            try:
                root, marker = await self._read_both()
            except SessionExpiredError:
                continue
            if root is None:
                return Base(initial, 0, 0, has_marker=False)
            return self._base(root, has_marker=marker is not None)

    async def _read_both(self) -> tuple[Node | None, Node | None]:
        """Return the counter and our marker: the marker as it is at, or after, the time of the counter."""
        root = await _get(self._client, self._path)
        return root, None if root is None else await _get(self._client, self._marker)

    def _base(self, root: Node, *, has_marker: bool) -> Base:
        return Base(parse_counter(root.value, self._path), root.stat.mzxid, root.stat.czxid, has_marker)

    async def _write(self, attempt: Attempt) -> int | None:
        """Carry an attempt out. Return its transaction; None if it was not applied and never will be."""
        is_doubtful = False
        while True:
            try:
                zxid = await self._commit(attempt)
                if zxid is not None or not is_doubtful:
                    return zxid
            except (SessionExpiredError, OutcomeUnknownError) as error:
                is_doubtful |= error.may_have_been_applied
            if not is_doubtful:
                continue
            try:
                attempt, is_open, zxid = await self._look_up(attempt)
            except SessionExpiredError:
                continue
            if not is_open:
                return zxid

    async def _commit(self, attempt: Attempt) -> int | None:
        """Send an attempt. Return its transaction; None if it was refused."""
        transaction = self._client.transaction(timeout=FOREVER)
        self._fill(transaction, attempt)
        try:
            results = await transaction.commit()
        except TransactionError as error:
            if isinstance(error.cause, NoNodeError | NodeExistsError):
                return None  # The counter has been deleted meanwhile.
            raise
        if not transaction.succeeded:
            if attempt.base.mzxid:
                root, marker = results[0], results[1]
                assert isinstance(root, Node), "asked for first"
                with suppress(InvalidValueError):  # Reading it anew will say so.
                    self._known = self._base(root, has_marker=isinstance(marker, Stat))
            return None
        result = results[0]
        stat = result.stat if isinstance(result, Created) else result
        assert isinstance(stat, Stat), "set or created first"
        self._known = Base(attempt.after, stat.mzxid, stat.czxid, has_marker=True)
        return stat.mzxid

    def _fill(self, transaction: TransactionBuilder, attempt: Attempt) -> None:
        base = attempt.base
        value = format_counter(attempt.after)
        if base.mzxid:
            transaction.compare(self._path, "mzxid", "==", base.mzxid)
            transaction.set(self._path, value)
            transaction.otherwise.get(self._path)
        else:
            transaction.compare(self._path, "exists", "==", 0)
            transaction.create(self._path, value, parents=True)
        transaction.otherwise.exists(self._marker)
        transaction.compare(self._marker, "exists", "==", base.has_marker)
        receipt = f"{attempt.name} {base.value} {attempt.after}".encode()
        if base.has_marker:
            transaction.set(self._marker, receipt)
        else:
            transaction.create(self._marker, receipt, ttl=MARKER_SECONDS)

    async def _look_up(self, attempt: Attempt) -> tuple[Attempt, bool, int | None]:
        """Decide what became of an attempt whose answer is lost.

        Returns:
            The attempt as it must be sent again; whether it is still open; else its transaction, or None.

        Raises:
            OutcomeUnknownError: Nothing is left that would tell.
        """
        base = attempt.base
        self._known = None
        root, marker = await self._read_both()
        if (root.stat.mzxid if root is not None else 0) == base.mzxid:
            # Nobody has written: the same again, and only one of the two can be applied.
            return replace(attempt, base=replace(base, has_marker=marker is not None)), True, None
        if marker is not None:
            is_ours = marker.value.split(b" ", 1)[0] == attempt.name.encode()
            return attempt, False, marker.stat.mzxid if is_ours else None
        was_deleted = root is None or (base.mzxid != 0 and root.stat.czxid != base.czxid)
        if was_deleted or clock.now() - attempt.began > MARKER_SECONDS / 2:
            raise OutcomeUnknownError(
                f"the session was lost while {self._path} was being changed, and what would tell whether it"
                " was is gone: read the counter and decide",
                path=self._path,
            )
        return attempt, False, None


def _deliver(batch: list[Call], outcomes: list[Outcome], zxid: int) -> None:
    for call, outcome in zip(batch, outcomes, strict=True):
        if call.outcome.done():
            continue  # Nobody waits for it any more.
        if isinstance(outcome, tuple):
            call.outcome.set_result(CounterChange(*outcome, zxid))
        else:
            call.outcome.set_exception(outcome)


def _fail(batch: list[Call], error: CoordError) -> None:
    for call in batch:
        if not call.outcome.done():
            call.outcome.set_exception(error)


async def _get(client: Operations, path: str) -> Node | None:
    try:
        return await client.get(path, timeout=FOREVER)
    except NoNodeError:
        return None


class _Writers:
    """The writers of one client: one for each counter that is in use."""

    def __init__(self) -> None:
        self.marker_name = uuid.uuid4().hex
        self.by_path: weakref.WeakValueDictionary[str, CounterWriter] = weakref.WeakValueDictionary()


_writers: weakref.WeakKeyDictionary[Operations, _Writers] = weakref.WeakKeyDictionary()


def _writer_of(client: Operations, path: str) -> CounterWriter:
    writers = _writers.setdefault(client, _Writers())
    writer = writers.by_path.get(path)
    if writer is None:
        writer = writers.by_path[path] = CounterWriter(client, path, writers.marker_name)
    return writer


# ---------------------------------------------------------------------------------------------
# For threads


class Counter:
    """An integer at a path, for threads. The object is only a description: any number may use it at once.

    Guarantees and duties are those of `AsyncCounter`: each change is applied exactly once, also through
    SUSPENDED (calls wait) and LOST (what was under way is looked up in the next session).
    """

    def __init__(
        self,
        client: BlockingFace,
        path: str,
        *,
        initial: int = 0,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> None:
        """Describe a counter; see `AsyncCounter`."""
        self._portal = client.portal
        self._counter = AsyncCounter(
            client.asynchronous, path, initial=initial, minimum=minimum, maximum=maximum
        )
        self.path = path

    def __repr__(self) -> str:
        return f"<Counter {self.path}>"

    def add(self, delta: int = 1, *, timeout: float | None = None) -> CounterChange:
        """Add to the counter, exactly once, and return the values before and after."""
        return self._portal.run(self._counter.add(delta, timeout=timeout))

    def value(self) -> int:
        """Return the value; InvalidValueError if it is no integer."""
        return self._portal.run(self._counter.value())

    def set(self, value: int, *, expected: int | None = None) -> CounterChange:
        """Set the counter, exactly once; with `expected` only if that is its value (CompareFailedError)."""
        return self._portal.run(self._counter.set(value, expected=expected))
