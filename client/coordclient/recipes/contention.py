"""Contention: make a contender, wait for its turn, leave nothing behind. Written once for every recipe.

A `Contest` says what is particular to one recipe at one path: which contenders there are, and whose turn
it is. An `Attempt` goes through it once, and ends with a `Place`: a contender that has been granted.

Rule of this file: whoever stops waiting leaves nothing behind, however it stops; and a wake-up means only
that it is time to look again, unless what was seen before leaves nobody else to look for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from coordclient.errors import (
    BadVersionError,
    ClientClosedError,
    CoordError,
    InvalidArgumentError,
    InvalidPathError,
    LockRevokedError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.recipes.contenders import (
    LOCK,
    PERMIT,
    Behind,
    Contender,
    Crowded,
    Details,
    Obstacle,
    Position,
    contender_of,
    last_part,
    new_details,
    new_name_prefix,
    positions_of,
    read_details,
    standing,
)
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.places import Place
from coordclient.states import State
from coordclient.types import Consistency, Created, Event, EventType, Node
from coordclient.watch_records import STREAM_RECURSIVE, WatchRecord

T = TypeVar("T")
Rule = Callable[[Position, Sequence[Position]], Obstacle | None]


class Contest:
    """How one recipe contends at one path.

    Attributes:
        root: The node below which the contenders queue.
    """

    def __init__(
        self, client: Operations, root: str, kind: str, rule: Rule, *, lock_delay: float = 0.0
    ) -> None:
        self.client = client
        self.root = root
        self.kind = kind
        self.lock_delay = lock_delay
        self.weight = 1
        self._rule = rule

    def obstacle(self, mine: Position, others: Sequence[Position]) -> Obstacle | None:
        """Return what `mine` has to wait for, or None. Decides by what was last looked at; no I/O."""
        return self._rule(mine, others)

    def holders(self, positions: Sequence[Position]) -> list[Position]:
        """Return who holds, of contenders in order: those at the head of the queue who wait for nobody."""
        found: list[Position] = []
        for position in positions:
            if self.obstacle(position, found) is not None:
                break
            found.append(position)
        return found

    def new_place(self, created: Created, details: Details) -> Place:
        return Place(self.client, created, details)

    async def ensure_root(self) -> None:
        """Make the root. The service removes it some time after the last contender has gone."""
        try:
            await self.client.create(self.root, container=True, parents=True, timeout=FOREVER)
        except NodeExistsError:
            return

    async def look(self) -> list[Position]:
        """Return all contenders, in no order. NoNodeError if there is no root.

        A local read, because a hand-over waits for it: it shows our own node, and nobody who comes later
        stands before us, so the worst that it can miss is that somebody before us has gone.
        """
        names = await self.client.get_children(self.root, consistency=Consistency.SESSION, timeout=FOREVER)
        return positions_of(names)

    async def confirm(self, place: Place) -> bool:
        """It is our turn. Write down what must be; False: look again."""
        if self.lock_delay and not place.details.is_marked:
            return await place.mark() is not None
        return True

    # -----------------------------------------------------------------------------------------
    # From outside of the queue

    async def standing(self) -> list[tuple[Position, Node]]:
        """Return the contenders that count, with their nodes, in order."""
        try:
            return standing(await across_sessions(lambda: self.client.get_children_nodes(self.root)))
        except NoNodeError:
            return []

    async def has_room(self) -> bool:
        """Return whether somebody who comes now need not wait."""
        positions = [position for position, _ in await self.standing()]
        last = max((position.sequence for position in positions), default=0)
        newcomer = Position("", last + 1, self.kind, self.weight)
        return self.obstacle(newcomer, positions) is None

    async def contenders(self) -> list[Contender]:
        """Return everybody who holds or waits, in order."""
        found = await self.standing()
        holders = set(self.holders([position for position, _ in found]))
        return [contender_of(position, node, is_holder=position in holders) for position, node in found]

    async def ask_to_release(self, contender: Contender, reason: str) -> bool:
        """Write into a contender's node that it should let go. Return whether it was there."""
        while True:
            try:
                node = await self.client.get(contender.path)
                details = replace(read_details(node.value), revocation=reason)
                await self.client.set(contender.path, details.encoded(), version=node.stat.version)
            except NoNodeError:
                return False
            except (BadVersionError, SessionExpiredError):
                continue
            return True


class Attempt:
    """One attempt to be granted something: makes a contender, waits for its turn.

    `end` must be called in any case: it leaves the queue, unless the place was granted.
    """

    def __init__(self, contest: Contest) -> None:
        self._contest = contest
        self._client = contest.client
        self._root = contest.root
        self._wake = asyncio.Event()
        self._creation: asyncio.Task[Created] | None = None
        self._place: Place | None = None
        self._passed: set[str] = set()  # graves of those who were never granted
        self._only_one_before_us: Position | None = None  # as of the last look

    async def run(self, *, may_wait: bool = True) -> Place | None:
        """Return the granted place; None if it is not our turn and we may not wait."""
        while True:
            try:
                place = await self._contend()
                if not await self._wait_for_turn(place, may_wait=may_wait):
                    return None
            except SessionExpiredError:
                self.end()  # The contender went with its session: queue again in the next one.
                continue
            self._place = self._creation = None  # From here on it belongs to the caller.
            return place

    def end(self) -> None:
        """Leave the queue, unless the place was granted. What is under way is removed when it is there."""
        creation, self._creation = self._creation, None
        place, self._place = self._place, None
        if place is not None:
            place.abandon()
        elif creation is not None:
            self._client.janitor.start(_remove_when_made(self._client, creation), "abandoned contender")

    async def _contend(self) -> Place:
        """Make the contender. The work belongs to the janitor, so that no cancellation can orphan it."""
        details = new_details(self._client.name, self._contest.weight)
        creation = self._creation = self._client.janitor.start(self._create(details), "contender")
        await asyncio.wait([creation])
        if creation.cancelled():
            raise ClientClosedError
        place = self._place = self._contest.new_place(creation.result(), details)
        if not await place.watch_over():
            raise self._gone(place)
        return place

    async def _create(self, details: Details) -> Created:
        prefix = f"{self._root}/{new_name_prefix(self._contest.kind)}"
        while True:
            try:
                return await self._client.create_node(
                    prefix,
                    details.encoded(),
                    ephemeral=True,
                    sequential=True,
                    linger=self._contest.lock_delay,
                    timeout=FOREVER,
                )
            except NoNodeError:
                await self._contest.ensure_root()

    async def _wait_for_turn(self, place: Place, *, may_wait: bool) -> bool:
        place.lost.add_callback(self._wake.set)
        while True:
            self._wake.clear()
            obstacle = await self._obstacle(place)
            if obstacle is not None and may_wait:
                if not await self._wait_for(obstacle):
                    continue
                obstacle = None
            if isinstance(obstacle, Behind) and await self._is_passed(f"{self._root}/{obstacle.name}"):
                continue
            if obstacle is not None:
                return False
            if not self._client.is_session_valid:
                await self._wake.wait()  # The session is about to be given up: the loss will say so.
            elif await self._contest.confirm(place) and not place.lost and self._client.is_session_valid:
                place.lost.remove_callback(self._wake.set)
                return True

    async def _obstacle(self, place: Place) -> Obstacle | None:
        try:
            positions = await self._contest.look()
        except NoNodeError:
            # The service removes a root when its last contender has gone, ours among them.
            raise self._gone(place) from None
        mine = place.position
        if place.lost or all(position.name != mine.name for position in positions):
            raise self._gone(place)
        left_out = {mine.name, *self._passed}
        others = [position for position in positions if position.name not in left_out]
        before_us = [position for position in others if position.sequence < mine.sequence]
        self._only_one_before_us = before_us[0] if len(before_us) == 1 else None
        return self._contest.obstacle(mine, others)

    async def _wait_for(self, obstacle: Obstacle) -> bool:
        """Wait until it may be our turn, or our place is lost. Returns whether it is known to be our turn."""
        if isinstance(obstacle, Behind):
            return await self._wait_behind(obstacle.name)
        await self._wait_for_room()
        return False

    async def _wait_behind(self, name: str) -> bool:
        """Wait until the one before us has changed or gone. Returns whether nobody else is before us then.

        To know that without another look makes a hand-over shorter by a round trip. Nobody can have come
        before us since the last look, except a reader or writer that changed sides where it stood. And
        whoever was granted a lock with a delay had set its node first: one that never did leaves no grave
        that counts. That our own node is there is known as long as it is watched.
        """
        path = f"{self._root}/{name}"
        told: list[EventType] = []

        def woken(event: Event) -> None:
            told.append(event.type)
            self._wake.set()

        record = self._client.one_shot(path, woken)
        try:
            stat = await self._client.exists_with(path, record, timeout=FOREVER)
            if stat is None or (stat.ephemeral_owner == 0 and await self._is_passed(path)):
                return False
            if stat.version and self._contest.kind == PERMIT and await self._has_moved(name):
                return False
            await self._wake.wait()
            is_gone = told == [EventType.DELETED] and stat.version == 0 and stat.ephemeral_owner != 0
            return is_gone and self._is_next_to(name)
        finally:
            self._client.cancel_watch(record)

    def _is_next_to(self, name: str) -> bool:
        """Whether our lock is free when this contender, the last that we looked at, has gone."""
        place, before_us = self._place, self._only_one_before_us
        assert place is not None, "whoever waits has a place"
        if before_us is None or before_us.name != name or not place.is_watched:
            return False
        return self._contest.kind == before_us.kind == LOCK

    async def _has_moved(self, name: str) -> bool:
        """Whether we wait for something else than this contender: it was granted before we watched it."""
        place = self._place
        assert place is not None, "whoever waits has a place"
        return await self._obstacle(place) != Behind(name)

    async def _is_passed(self, path: str) -> bool:
        """Note whether the one before us is the grave of somebody who had only waited."""
        try:
            node = await self._client.get(path, timeout=FOREVER)
        except NoNodeError:
            return True
        if not standing([node]):
            self._passed.add(last_part(path))
            return True
        return False

    async def _wait_for_room(self) -> None:
        """Return when somebody has gone, or the root was set. Those who only arrive wake nobody."""
        record = WatchRecord(self._client.full_path(self._root), STREAM_RECURSIVE, self._news)
        try:
            await self._client.set_stream(record, timeout=FOREVER)
            place = self._place
            assert place is not None, "whoever waits has a place"
            if isinstance(await self._obstacle(place), Crowded):
                await self._wake.wait()
        finally:
            self._client.cancel_watch(record)

    def _news(self, event: Event) -> None:
        is_root = self._client.relative_path(event.path) == self._root
        if is_root or event.type in (EventType.DELETED, EventType.RESYNC):
            self._wake.set()

    def _gone(self, place: Place) -> CoordError:
        """Say why our contender is not there any more."""
        if self._client.state is State.CLOSED:
            return ClientClosedError()
        if self._client.session_id != place.session_id:
            return SessionExpiredError(place.lost.reason)
        return LockRevokedError(f"{place.path} was deleted while it waited", path=place.path)


async def attempt(contest: Contest, *, may_wait: bool = True) -> Place | None:
    """Go through one attempt; None if it is not our turn and we may not wait."""
    trial = Attempt(contest)
    try:
        return await trial.run(may_wait=may_wait)
    finally:
        trial.end()


async def across_sessions(work: Callable[[], Awaitable[T]]) -> T:
    """Carry out what may be carried out twice: again in the next session, if one ends meanwhile."""
    while True:
        try:
            return await work()
        except SessionExpiredError:
            continue


def check_root(path: str, what: str) -> None:
    """Refuse a path at which a recipe cannot have its root."""
    if path == "/" or not path.startswith("/"):
        raise InvalidPathError(f'{what} needs a path like "/{what.rpartition(" ")[2]}s/name"', path=path)


def check_lock_delay(lock_delay: float, path: str) -> None:
    if not 0 <= lock_delay < FOREVER:
        raise InvalidArgumentError("lock_delay is a number of seconds, at least 0", path=path)


async def _remove_when_made(client: Operations, creation: asyncio.Task[Created]) -> None:
    await asyncio.wait([creation])
    if creation.cancelled() or creation.exception() is not None:
        return  # Nothing was made, or it went with its session.
    await client.delete(creation.result().path, missing_ok=True, timeout=FOREVER)
