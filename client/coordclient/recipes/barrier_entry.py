"""Entering a double barrier: what its nodes hold, and one attempt to get in.

The barrier's node holds the number of parties and of the present round. Members of round 7 are ephemeral
nodes below `round-7`. When enough are there, one of them moves the number on to 8, in a transaction that
requires that nobody has come or gone since they were counted. The number is the latch: whoever is a member
of round 7 has entered once the number is greater, whether or not the others have left again by then.

Rule of this file: whether a member has entered is read from the number, never from a second count.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace

from coordclient.errors import (
    ClientClosedError,
    CompareFailedError,
    CoordError,
    InvalidValueError,
    LockRevokedError,
    MismatchError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OutcomeUnknownError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.barrier import wait_until_absent
from coordclient.recipes.contenders import new_details
from coordclient.recipes.deadlines import FOREVER, deadline
from coordclient.recipes.grants import Grant
from coordclient.states import State
from coordclient.types import Created, Event, Node

UNUSED_SECONDS = 3600.0  # after the last round, before the service forgets how many there were
_MEMBER = re.compile(r"[0-9a-f]{32}\Z")
_FOLDER = re.compile(r"round-[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Record:
    """What the barrier's node holds. `mzxid` and `czxid` are the transactions that wrote and made it."""

    parties: int
    number: int
    mzxid: int = 0
    czxid: int = 0

    def encoded(self) -> bytes:
        return json.dumps({"parties": self.parties, "round": self.number}).encode()

    def has_passed(self, later: Record | None) -> bool:
        """Return whether the members of this round have entered, as a later look shows."""
        return later is not None and later.czxid == self.czxid and later.number > self.number


def record_of(node: Node) -> Record:
    """Read the barrier's node; InvalidValueError if it is none."""
    try:
        value = json.loads(node.value)
        parties, number = value["parties"], value["round"]
    except (ValueError, TypeError, KeyError):
        parties = number = None
    if not isinstance(parties, int) or not isinstance(number, int):
        raise InvalidValueError(
            f"{node.path} holds {node.value[:40]!r}, which is no double barrier: use another path",
            path=node.path,
        )
    return Record(parties, number, node.stat.mzxid, node.stat.czxid)


def members_of(names: list[str]) -> list[str]:
    """Return the members among the children of a round; what others put there does not count."""
    return [name for name in names if _MEMBER.match(name)]


def folder_of(root: str, number: int) -> str:
    """Return the node below which the members of a round are."""
    return f"{root}/round-{number}"


class AsyncBarrierRound(Grant):
    """A round that was entered, until it is left.

    `leave()` waits until all others have left, too; `release()`, and the end of `async with`, do not wait.

    Attributes:
        number: Which round it is. It grows from round to round, until nobody has come for an hour.
    """

    def __init__(self, client: Operations, root: str, record: Record, member: Created) -> None:
        """For recipes: membership in the round of a record."""
        super().__init__(client, member.path, member.stat.czxid, member.stat.ephemeral_owner)
        self.number = record.number
        self.record = record
        self._folder = folder_of(root, record.number)

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave, and wait until all others have left. Who has died has left.

        Args:
            timeout: How many seconds to wait for the others at most; None: as long as it takes.

        Raises:
            RecipeTimeoutError: Others are still in; we have left.
        """
        leaving = self.abandon()
        async with deadline(timeout, self._folder):
            if leaving is not None:
                await asyncio.wait([leaving])
            await wait_until_empty(self._client, self._folder)


class Entry:
    """One attempt to enter. `undo` or `abandon` must be called unless it was successful."""

    def __init__(self, client: Operations, root: str, parties: int) -> None:
        self._client = client
        self._root = root
        self._parties = parties
        self._name = uuid.uuid4().hex
        self._wake = asyncio.Event()
        self._creation: asyncio.Task[AsyncBarrierRound | None] | None = None
        self._tried: Record | None = None  # the round that we tried to join last
        self._round: AsyncBarrierRound | None = None  # and did join
        self._is_doubtful = False  # a member of ours may still be made, by a session that we gave up
        self._is_abandoned = False

    async def run(self) -> AsyncBarrierRound:
        """Wait for the others and return the round."""
        while True:
            try:
                record = await self._record()
                if await self._has_entered_before(record):
                    assert self._round is not None, "found just now"
                    return self._round
                entered = await self._join(record)
                if entered is not None:
                    await self._wait_for_start(entered)
                    return entered
            except SessionExpiredError as error:
                if self._round is not None:
                    self._round.lose(error.message)

    async def _has_entered_before(self, record: Record) -> bool:
        """Return whether the others saw us enter although our session was lost meanwhile."""
        tried = self._tried
        if tried is None or not tried.has_passed(record):
            return False
        if self._round is None and self._is_doubtful:
            stat = await self._client.exists(self._member_of(tried), timeout=FOREVER)
            if stat is not None:
                created = Created(self._member_of(tried), stat)
                self._round = AsyncBarrierRound(self._client, self._root, tried, created)
                self._round.lose("its session is gone")
        return self._round is not None

    # -----------------------------------------------------------------------------------------
    # The barrier's node

    async def _record(self) -> Record:
        """Return the present record; make the barrier if there is none."""
        while True:
            node = await _get(self._client, self._root)
            if node is None:
                first = Record(self._parties, 0).encoded()
                with suppress(NodeExistsError):
                    await self._client.create(
                        self._root, first, ttl=UNUSED_SECONDS, parents=True, timeout=FOREVER
                    )
                continue
            record = record_of(node)
            if record.parties == self._parties:
                return record
            if not node.stat.num_children:
                await self._change_parties(record)
            elif await self._is_used():
                raise MismatchError(
                    f"{self._root} is a double barrier for {record.parties} parties, not for {self._parties}",
                    path=self._root,
                )

    async def _is_used(self) -> bool:
        """Return whether anybody is in. What stands for rounds that all have left is removed."""
        try:
            for name in await self._client.get_children(self._root, timeout=FOREVER):
                if not _FOLDER.match(name):
                    return True
                await self._client.delete(f"{self._root}/{name}", missing_ok=True, timeout=FOREVER)
        except NotEmptyError:
            return True
        except NoNodeError:
            return False
        return False

    async def _change_parties(self, record: Record) -> None:
        """Take a barrier over that nobody uses at present."""
        transaction = self._client.transaction(timeout=FOREVER)
        transaction.compare(self._root, "mzxid", "==", record.mzxid)
        transaction.compare(self._root, "num_children", "==", 0)
        transaction.set(self._root, replace(record, parties=self._parties).encoded())
        with suppress(CompareFailedError):  # Then it is looked at again.
            await transaction.commit()

    async def _present(self) -> Record | None:
        node = await _get(self._client, self._root)
        return None if node is None else record_of(node)

    # -----------------------------------------------------------------------------------------
    # Joining

    async def _join(self, record: Record) -> AsyncBarrierRound | None:
        """Become a member of the present round; None if it has begun meanwhile."""
        # The work belongs to the janitor, so that no cancellation can orphan the member.
        creation = self._client.janitor.start(self._create(record), "join a barrier")
        self._creation = creation
        await asyncio.wait([creation])
        if creation.cancelled():
            raise ClientClosedError
        joined = creation.result()
        if joined is not None:
            await joined.watch_over()  # What it finds is asked for below, after the latch.
        return joined

    async def _create(self, record: Record) -> AsyncBarrierRound | None:
        client = self._client
        self._tried, self._round = record, None
        member = self._member_of(record)
        while True:
            transaction = client.transaction(timeout=FOREVER)
            transaction.compare(self._root, "mzxid", "==", record.mzxid)
            transaction.create(member, new_details(client.name).encoded(), ephemeral=True)
            try:
                (created,) = await transaction.commit()
            except CompareFailedError:
                return None
            except TransactionError as error:
                if isinstance(error.cause, NodeExistsError):
                    await client.delete(member, missing_ok=True, timeout=FOREVER)  # of a session before this
                elif isinstance(error.cause, NoNodeError):
                    await self._make_folder(folder_of(self._root, record.number))
                else:
                    raise
            except (SessionExpiredError, OutcomeUnknownError) as error:
                self._is_doubtful |= error.may_have_been_applied
                raise
            else:
                assert isinstance(created, Created), "asked for"
                self._round = AsyncBarrierRound(client, self._root, record, created)
                return self._round

    async def _make_folder(self, folder: str) -> None:
        try:
            await self._client.create(folder, container=True, timeout=FOREVER)
        except NodeExistsError:
            return
        except NoNodeError:
            return  # The barrier has gone: the compare will say so.

    # -----------------------------------------------------------------------------------------
    # Waiting

    async def _wait_for_start(self, joined: AsyncBarrierRound) -> None:
        client = self._client
        joined.lost.add_callback(self._wake.set)
        try:
            while True:
                self._wake.clear()
                watch = client.one_shot(self._root, self._root_changed)
                try:
                    await client.exists_with(self._root, watch, timeout=FOREVER)
                    present = await self._present()
                    if joined.record.has_passed(present):
                        return
                    if joined.lost:
                        raise self._gone(joined)
                    if present is None or not await self._start_if_complete(present):
                        await self._wake.wait()
                finally:
                    client.cancel_watch(watch)
        finally:
            joined.lost.remove_callback(self._wake.set)

    def _root_changed(self, _: Event) -> None:
        self._wake.set()

    def _gone(self, joined: AsyncBarrierRound) -> CoordError:
        if self._client.state is State.CLOSED:
            return ClientClosedError()
        if self._client.session_id != joined.session_id:
            return SessionExpiredError(joined.lost.reason)
        return LockRevokedError(f"{joined.path} was deleted before the barrier opened", path=joined.path)

    async def _start_if_complete(self, present: Record) -> bool:
        """Open the barrier if everybody is there. Return whether to look at it again at once."""
        client = self._client
        folder = folder_of(self._root, present.number)
        stat = await client.exists(folder, timeout=FOREVER)
        try:
            names = await client.get_children(folder, timeout=FOREVER)
        except NoNodeError:
            return False
        if stat is None or len(members_of(names)) < self._parties:
            return False
        transaction = client.transaction(timeout=FOREVER)
        transaction.compare(self._root, "mzxid", "==", present.mzxid)
        transaction.compare(folder, "pzxid", "==", stat.pzxid)
        transaction.set(self._root, replace(present, number=present.number + 1).encoded())
        try:
            await transaction.commit()
        except CompareFailedError:
            return True  # Somebody was faster, or has come or gone since.
        except TransactionError as error:
            if not isinstance(error.cause, NoNodeError):
                raise
        return True

    # -----------------------------------------------------------------------------------------
    # Not waiting any longer

    def undo(self) -> asyncio.Task[AsyncBarrierRound | None]:
        """Begin to take the attempt back. The task's result is the round if we have entered after all."""
        return self._client.janitor.start(self._undo(), "leave a barrier")

    def give_up(self) -> None:
        """Nobody waits for the outcome of `undo` any more: leave, even if we have entered."""
        self._is_abandoned = True

    def abandon(self) -> None:
        """Nobody waits for this attempt any more: leave, even if we have entered."""
        self.give_up()
        self.undo()

    async def _undo(self) -> AsyncBarrierRound | None:
        if self._creation is not None:
            await asyncio.wait([self._creation])
        if self._tried is None:
            return None
        has_entered = False
        try:
            has_entered = await self._take_back(self._tried)
        finally:
            if self._round is not None and (self._is_abandoned or not has_entered):
                self._round.abandon()
        return self._round if has_entered and not self._is_abandoned else None

    async def _take_back(self, tried: Record) -> bool:
        """Take our member away, unless the barrier has opened: one or the other, in one transaction."""
        client = self._client
        member = self._member_of(tried)
        while True:
            try:
                is_member = await client.exists(member, timeout=FOREVER) is not None
                present = await self._present()
                if tried.has_passed(present):
                    return self._round is not None
                if present is None or present.czxid != tried.czxid or not (is_member or self._is_doubtful):
                    return False
                transaction = client.transaction(timeout=FOREVER)
                transaction.compare(self._root, "mzxid", "==", present.mzxid)
                if self._is_doubtful:
                    # What a session that we gave up may have under way rests on this writing of the record.
                    transaction.set(self._root, present.encoded())
                if is_member:
                    transaction.delete(member)
                await transaction.commit()
            except (SessionExpiredError, CompareFailedError):
                continue
            except TransactionError as error:
                if not isinstance(error.cause, NoNodeError):
                    raise
            else:
                return False

    def _member_of(self, record: Record) -> str:
        return f"{folder_of(self._root, record.number)}/{self._name}"


async def wait_until_empty(client: Operations, folder: str) -> None:
    """Return when no member of a round is left; remove what stood for it. Each waiter watches one member."""
    while True:
        try:
            members = members_of(await client.get_children(folder, timeout=FOREVER))
        except NoNodeError:
            return
        except SessionExpiredError:
            continue
        if not members:
            client.janitor.start(_remove_folder(client, folder), "remove a round")
            return
        await wait_until_absent(client, f"{folder}/{min(members)}")


async def _remove_folder(client: Operations, folder: str) -> None:
    """Remove an empty round; if something is in it, or we cannot, the service does it some time."""
    await client.delete(folder, missing_ok=True, timeout=FOREVER)


async def _get(client: Operations, path: str) -> Node | None:
    try:
        return await client.get(path, timeout=FOREVER)
    except NoNodeError:
        return None
