"""Registrations: a node that says "I am here", kept there for as long as its owner wants it.

The node is ephemeral, so it goes with the session; what is to be announced is kept here, and announced
anew in every new session. Group members and instances of services are announced this way.

Rule of this file: what the owner wants is noted first; whatever is under way, or comes later, brings that
about. Once closed, nothing is left behind: a create that is under way is waited for and taken back.
"""

from __future__ import annotations

import asyncio
import logging
import math

from coordclient.errors import (
    ClientClosedError,
    GuardFailedError,
    InvalidArgumentError,
    NodeExistsError,
    NoNodeError,
    RecipeError,
    RecipeTimeoutError,
    RequestError,
    SessionExpiredError,
)
from coordclient.operations import Operations
from coordclient.states import State
from coordclient.types import Event, EventType
from coordclient.watch_records import WatchRecord

logger = logging.getLogger("coordclient.recipes")

FOREVER = math.inf
PAUSE_SECONDS = 1.0  # after a refusal that may pass: a limit that is reached, a right that is missing


class Announcement:
    """An ephemeral node that is there while we are, with the value that was asked for last.

    1. It guarantees that one node at most announces us, that it comes back in every new session and after
       somebody deleted it, always with the newest value, and that none is left after `close`.
    2. While the connection is SUSPENDED the node stays; a change is noted, and made when it can be.
    3. When the session is LOST the node goes with it, and is made again in the next session. A node that an
       earlier session of ours left, which the service has not given up yet, is replaced. If somebody else
       has taken the path meanwhile, it is ours again once they have gone.

    Attributes:
        path: The node.
        value: What is to be announced.
    """

    def __init__(self, client: Operations, path: str, value: bytes, *, taken: type[RecipeError]) -> None:
        """Describe an announcement; `taken` is the error for a path that belongs to another."""
        self.path = path
        self.value = value
        self._client = client
        self._taken = taken
        self._announced: bytes | None = None  # what the node holds, or held last, as far as we know
        self._refused: bytes | None = None  # with this the node could not be made
        self._czxid = 0
        self._session_id = 0
        self._own_sessions: set[int] = set()  # what one of them left, now lost, is ours to replace
        self._is_closed = False
        self._busy = asyncio.Lock()
        self._news = asyncio.Event()  # for one who waits for the path to become free
        self._refusal: RecipeError | None = None  # why we wait for the path
        self._making: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._record: WatchRecord | None = None

    @property
    def is_announced(self) -> bool:
        """Return whether the node was made in the present session."""
        return self._session_id != 0 and self._session_id == self._client.session_id

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def czxid(self) -> int:
        """Return the transaction that made the node; 0 if it is not there."""
        return self._czxid if self.is_announced else 0

    @property
    def _is_settled(self) -> bool:
        return self.is_announced and self._announced == self.value and self._record is not None

    # -----------------------------------------------------------------------------------------
    # What the owner asks for

    async def open(self, timeout: float | None = 0.0) -> None:
        """Make the node for the first time.

        Args:
            timeout: How many seconds to wait for a path that belongs to another session; 0: not at all;
                None: as long as it takes.

        Raises:
            RecipeError: The error `taken`: the path belongs to another session.
            RecipeTimeoutError: The service could not be reached within `timeout` seconds.
        """
        is_patient = timeout is None or timeout > 0
        self._client.add_internal_listener(self._state_changed)
        self._note_session()
        work = self._make(is_first=True, is_patient=is_patient)
        making = self._making = self._client.janitor.start(work, "announce")
        try:
            await asyncio.wait([making], timeout=None if timeout == FOREVER else timeout or None)
            if not making.done():
                raise self._refusal or RecipeTimeoutError(
                    f"{self.path} could not be announced within {timeout:g} s", path=self.path
                )
            if making.cancelled():
                raise ClientClosedError
            making.result()
        except BaseException:
            self.give_up()
            raise

    async def update(self, value: bytes) -> None:
        """Announce another value.

        Returns when it is announced. If that takes longer than the client's `request_timeout`, or there is
        no session, it returns all the same: the value is noted, and announced as soon as it can be.

        Raises:
            InvalidArgumentError: It is closed.
            RequestError: The service refused the value; what was announced before stays.
        """
        if self._is_closed:
            raise InvalidArgumentError(f"{self.path} is closed: nothing can be announced", path=self.path)
        self.value = value  # First: whatever is under way, or comes later, announces this.
        if not self.is_announced:
            return
        if self._publishing is None or self._publishing.done():
            self._publishing = self._client.janitor.start(self._publish(), "announce a change")
        publishing = self._publishing
        await asyncio.wait([publishing], timeout=self._client.request_timeout)
        if publishing.cancelled():
            raise ClientClosedError
        if publishing.done():
            publishing.result()

    async def close(self) -> None:
        """Take the node back. Idempotent; once begun, it is carried out in any case."""
        if self._is_closed:
            return
        removing = self.give_up()
        await asyncio.wait([removing], timeout=self._client.request_timeout)

    def give_up(self) -> asyncio.Task[None]:
        """Begin to take the node back; the janitor finishes it."""
        self._is_closed = True
        self._client.remove_internal_listener(self._state_changed)
        self._watch_with(None)
        self._news.set()
        return self._client.janitor.start(self._remove(), "take an announcement back")

    async def _remove(self) -> None:
        async with self._busy:  # A create under way comes first, so that it cannot outlive us.
            if not self.is_announced:
                return
            try:
                guard = (self.path, self._czxid)
                await self._client.delete(self.path, guard=guard, timeout=FOREVER)
            except (RequestError, SessionExpiredError, ClientClosedError):
                return  # It is gone, or no longer ours.

    # -----------------------------------------------------------------------------------------
    # What happens to it

    def _state_changed(self, state: State) -> None:
        self._news.set()
        if state is State.CONNECTED:
            self._note_session()
            self._go_on()

    def _note_session(self) -> None:
        if self._client.session_id:  # Without one it is 0, as is the owner of a node that nobody owns.
            self._own_sessions.add(self._client.session_id)

    def _node_changed(self, event: Event) -> None:
        self._record = None
        if event.type is EventType.DELETED:
            self._session_id = 0
        self._go_on()

    def _go_on(self) -> None:
        """See to it that somebody brings about what is wanted."""
        if self._is_closed or self._is_settled:
            return
        if self._making is None or self._making.done():
            self._making = self._client.janitor.start(
                self._make(is_first=False, is_patient=True), "announce again"
            )

    def _watch_with(self, record: WatchRecord | None) -> None:
        if self._record is not None:
            self._client.cancel_watch(self._record)
        self._record = record

    # -----------------------------------------------------------------------------------------
    # Bringing it about

    async def _make(self, *, is_first: bool, is_patient: bool) -> None:
        """Make the node as it is wanted; the first time a refusal is the caller's, later it is sat out."""
        while not self._is_closed and not self._is_settled:
            try:
                async with self._busy:
                    await self._step()
            except SessionExpiredError:
                continue  # It is announced in the next session.
            except self._taken as error:
                if not is_patient:
                    raise
                self._refusal = error
                logger.warning("%s; waiting until it goes", error)
                await self._wait_until_free()
            except RequestError as error:
                if is_first:
                    raise
                logger.warning("%s cannot be announced, trying again: %s", self.path, error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _step(self) -> None:
        """Take the next step towards what is wanted."""
        if self._is_closed:
            return
        if not self.is_announced:
            await self._create()
        elif self._announced != self.value:
            await self._set()
        elif self._record is None:
            await self._watch_over()

    async def _create(self) -> None:
        value = self.value
        if value == self._refused and self._announced is not None:
            value = self._announced  # Better the last good one than none.
        try:
            created = await self._client.create_node(self.path, value, ephemeral=True, timeout=FOREVER)
        except NoNodeError:
            await self._ensure_directory()
        except NodeExistsError:
            await self._remove_former()
        except RequestError:
            self._refused = value
            raise
        else:
            self._refused = None
            if self._czxid:
                logger.info("%s is announced again", self.path)
            self._watch_with(None)
            self._announced = value
            self._czxid = created.stat.czxid
            self._session_id = created.stat.ephemeral_owner
            self._own_sessions = {self._session_id}  # Nothing can be left of the earlier ones.

    async def _publish(self) -> None:
        """Announce the newest value; one that has been replaced meanwhile may be refused unnoticed."""
        async with self._busy:
            while not self._is_closed and self.is_announced and self._announced != self.value:
                try:
                    await self._set()
                except SessionExpiredError:
                    return  # It is announced in the next session.
                except RequestError:
                    if self._announced == self.value:
                        raise

    async def _set(self) -> None:
        value = self.value
        try:
            await self._client.set(self.path, value, guard=(self.path, self._czxid), timeout=FOREVER)
        except (GuardFailedError, NoNodeError):
            self._session_id = 0  # Somebody deleted the node: it is made anew.
            self._go_on()
        except RequestError:
            if self.value is value and self._announced is not None:
                self.value = self._announced
            raise
        else:
            self._announced = value

    async def _watch_over(self) -> None:
        """Begin to watch the node, so that we hear when somebody deletes it."""
        record = self._client.one_shot(self.path, self._node_changed)
        self._watch_with(record)
        try:
            stat = await self._client.exists_with(self.path, record, timeout=FOREVER)
        except BaseException:
            self._record = None
            raise
        if self._is_closed:
            self._client.cancel_watch(record)
        elif stat is None or stat.czxid != self._czxid:
            self._session_id = 0

    async def _ensure_directory(self) -> None:
        directory = self.path.rpartition("/")[0]
        try:
            await self._client.create(directory, container=True, parents=True, timeout=FOREVER)
        except NodeExistsError:
            return

    async def _remove_former(self) -> None:
        """Remove what an earlier session of ours left, which the service has not given up yet."""
        stat = await self._client.exists(self.path, timeout=FOREVER)
        if stat is None:
            return
        owner = stat.ephemeral_owner
        if owner not in self._own_sessions or owner == self._client.session_id:
            raise self._taken(f"{self.path} is taken: it belongs to session {owner:#x}", path=self.path)
        try:
            await self._client.delete(self.path, guard=(self.path, stat.czxid), timeout=FOREVER)
        except (NoNodeError, GuardFailedError):
            return  # It has gone by itself.

    async def _wait_until_free(self) -> None:
        """Return when the path may have become free, or we are not wanted any more."""
        self._news.clear()
        if self._is_closed:
            return
        record = self._client.one_shot(self.path, self._path_changed)
        try:
            if await self._client.exists_with(self.path, record, timeout=FOREVER) is not None:
                await self._news.wait()
        except SessionExpiredError:
            return
        except RequestError as error:
            logger.warning("%s cannot be watched, looking again soon: %s", self.path, error)
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._client.cancel_watch(record)

    def _path_changed(self, _: Event) -> None:
        self._news.set()
