"""What the clients of a chaos run do: writers, readers, watchers, lock holders, leaders, counters.

Every few seconds all of them move on to new top-level nodes: so each subtree has a short history of its own,
which can be searched exhaustively. Values are unique.

Rule of this file: an error of the service is an outcome like any other; any other exception ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from coordclient.errors import CoordError, LockTimeoutError
from coordclient.recipes.grants import Grant
from coordclient.types import Consistency, Event
from tests.chaos.fenced_file import FencedFile
from tests.chaos.recorder import NS, now_ns
from tests.chaos.recording_client import RecordingClient
from tests.checkers.history import STREAM_RECURSIVE, LockRecord

EPOCH_S = 5  # how long all clients work on the same nodes
SUBTREES = 3  # at a time
CHILDREN = ("a", "b", "c")


@dataclass(slots=True)
class Work:
    """One client's work.

    Attributes:
        fenced: Returns the file that a lock protects.
        causal: The newest transaction that any client of this process has seen.
    """

    client: RecordingClient
    dice: random.Random
    stop: asyncio.Event
    fenced: Callable[[str], FencedFile]
    pace_s: float
    new_client: Callable[[], Awaitable[RecordingClient]]
    causal: list[int] = field(default_factory=lambda: [0])
    values: int = 0

    @property
    def name(self) -> str:
        return self.client.recorder.client

    def epoch(self) -> int:
        return now_ns() // (EPOCH_S * NS)

    def subtree(self) -> str:
        return f"/k{self.epoch() % 100_000}-{self.dice.randrange(SUBTREES)}"

    def child(self, subtree: str) -> str:
        return f"{subtree}/{self.dice.choice(CHILDREN)}"

    def value(self) -> bytes:
        """Return a value that nobody else writes."""
        self.values += 1
        return f"{self.name}:{self.values}".encode()

    async def rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pace_s * self.dice.uniform(0.2, 2.0)):
                await self.stop.wait()


Role = Callable[[Work], Coroutine[None, None, None]]


async def _repeat(work: Work, step: Callable[[Work], Awaitable[None]]) -> None:
    """Do it again and again, whatever the service says."""
    while not work.stop.is_set():
        with contextlib.suppress(CoordError):
            await step(work)
        work.causal[0] = max(work.causal[0], work.client.last_zxid)
        await work.rest()


# ---------------------------------------------------------------------------------------------
# Writers


async def write(work: Work) -> None:
    await _repeat(work, _write_something)


async def _write_something(work: Work) -> None:
    step = work.dice.choices(
        [_create, _set, _swap, _delete, _sequential, _ephemeral, _transaction, _read_back, _pipeline],
        weights=[4, 5, 5, 2, 2, 1, 3, 5, 1],
    )[0]
    await step(work, work.subtree())


async def _create(work: Work, subtree: str) -> None:
    await work.client.create(work.child(subtree), work.value(), parents=True)


async def _set(work: Work, subtree: str) -> None:
    await work.client.set(work.child(subtree), work.value())


async def _swap(work: Work, subtree: str) -> None:
    """Compare and swap, by version."""
    path = work.child(subtree)
    node = await work.client.get(path)
    await work.client.set(path, work.value(), version=node.stat.version)


async def _delete(work: Work, subtree: str) -> None:
    path = work.child(subtree)
    if work.dice.random() < 0.1:
        await work.client.delete(subtree, recursive=True)
    elif work.dice.random() < 0.5:
        stat = await work.client.exists(path)
        await work.client.delete(path, version=stat.version if stat is not None else 0)
    else:
        await work.client.delete(path)


async def _sequential(work: Work, subtree: str) -> None:
    await work.client.create(f"{subtree}/s-", work.value(), sequential=True, parents=True)


async def _ephemeral(work: Work, subtree: str) -> None:
    await work.client.create(f"{subtree}/e-", work.value(), ephemeral=True, sequential=True, parents=True)


async def _transaction(work: Work, subtree: str) -> None:
    """Two children change together or not at all."""
    client, (one, other) = work.client, work.dice.sample(CHILDREN, 2)
    node = await client.get(f"{subtree}/{one}")
    if work.dice.random() < 0.5:
        async with client.transaction() as transaction:
            transaction.check(f"{subtree}/{one}", version=node.stat.version)
            transaction.set(f"{subtree}/{one}", work.value())
            transaction.create(f"{subtree}/{other}", work.value())
        return
    transaction = client.transaction()
    transaction.compare(f"{subtree}/{one}", "version", "==", node.stat.version)
    transaction.set(f"{subtree}/{one}", work.value())
    transaction.otherwise.get(f"{subtree}/{one}")
    await transaction.commit()


async def _read_back(work: Work, subtree: str) -> None:
    step = work.dice.randrange(3)
    if step == 0:
        await work.client.get_children(subtree)
    elif step == 1:
        await work.client.exists(work.child(subtree))
    else:
        await work.client.get(work.child(subtree))


async def _pipeline(work: Work, subtree: str) -> None:
    """Several requests at once: they take effect in the order in which they are called."""
    path = work.child(subtree)
    client = work.client
    await asyncio.gather(
        client.set(path, work.value()),
        client.get(path),
        client.set(path, work.value()),
        client.exists(path, consistency=Consistency.SESSION),
        client.create(f"{subtree}/s-", work.value(), sequential=True),
        return_exceptions=True,
    )


# ---------------------------------------------------------------------------------------------
# Readers and watchers


async def read(work: Work) -> None:
    await _repeat(work, _read_something)


async def _read_something(work: Work) -> None:
    subtree, dice, client = work.subtree(), work.dice, work.client
    consistency = dice.choice([Consistency.LINEARIZABLE, Consistency.SESSION, Consistency.STALE])
    min_zxid = work.causal[0] if dice.random() < 0.3 else 0
    step = dice.randrange(4)
    if step == 0:
        await client.get_children(subtree, consistency=consistency, min_zxid=min_zxid)
    elif step == 1:
        await client.get(work.child(subtree), consistency=consistency, min_zxid=min_zxid)
    elif step == 2:
        await client.exists(work.child(subtree), consistency=consistency, min_zxid=min_zxid)
    else:
        await client.get_children(subtree, watch=_ignore)


def _ignore(_: Event) -> None:
    """The recorder has seen the event."""


async def watch(work: Work) -> None:
    """Watch everything; now and then end the client, and go on with another one where it stopped."""
    since: int | None = None
    while True:
        client = work.client
        with contextlib.suppress(CoordError):
            await _watch_for_a_while(work, since)
        streams = [record for record in client.recorder.watches if record.kind == STREAM_RECURSIVE]
        events = streams[-1].events if streams else []
        since = events[-1].zxid if events else since
        if work.stop.is_set():
            return
        await client.close()
        work.client = await work.new_client()


async def _watch_for_a_while(work: Work, since: int | None) -> None:
    """Let events come in, with one-shot watches beside the stream. A small buffer makes the reader slow."""
    ends_ns = now_ns() + round(work.dice.uniform(3.0, 15.0) * NS)
    buffer_size = work.dice.choice([20, 1000])
    async with work.client.watch("/", recursive=True, since=since, buffer_size=buffer_size) as stream:
        while not work.stop.is_set() and now_ns() < ends_ns:
            path = work.child(work.subtree())
            with contextlib.suppress(CoordError):
                if work.dice.random() < 0.5:
                    await work.client.exists(path, watch=_ignore)
                else:
                    await work.client.get(path, watch=_ignore)
            await work.rest()
            if not stream.is_drained:
                await stream.batch()


# ---------------------------------------------------------------------------------------------
# Locks and leadership


async def hold_lock(work: Work) -> None:
    await _repeat(work, _hold_once)


async def _hold_once(work: Work) -> None:
    lock = f"/locks-{work.epoch() // 4 % 100_000}"
    record = LockRecord(work.name, work.client.session_id, lock, now_ns())
    work.client.recorder.locks.append(record)
    with contextlib.suppress(LockTimeoutError):
        await _use(work, record, await work.client.lock(lock).acquire(timeout=15.0))


async def lead(work: Work) -> None:
    await _repeat(work, _lead_once)


async def _lead_once(work: Work) -> None:
    path = f"/election-{work.epoch() // 4 % 100_000}"
    record = LockRecord(work.name, work.client.session_id, path, now_ns())
    work.client.recorder.locks.append(record)
    with contextlib.suppress(LockTimeoutError):
        await _use(work, record, await work.client.election(path, work.value()).campaign(timeout=15.0))


async def _use(work: Work, record: LockRecord, grant: Grant) -> None:
    """Work under a grant for a while; after a loss once more, as somebody who has not noticed."""
    fence = work.fenced(record.lock.strip("/"))
    record.node, record.token, record.session = grant.path, grant.token, grant.session_id
    record.granted_ns = now_ns()
    guarded = f"/guarded-{record.lock.strip('/')}"
    ends_ns = now_ns() + round(work.dice.uniform(0.1, 2.0) * NS)
    believed_until = grant.valid_until
    try:
        while not grant.lost and now_ns() < ends_ns:
            believed_until = max(believed_until, grant.valid_until)
            if grant.remaining > 0:
                fence.write(work.name, grant.token, now_ns())
            with contextlib.suppress(CoordError):
                await _write_guarded(work, guarded, grant)
            await work.rest()
    finally:
        _note_end(record, grant, max(believed_until, grant.valid_until))
        await grant.release()
    if record.lost_ns is not None:
        fence.write(work.name, grant.token, now_ns())
        with contextlib.suppress(CoordError):
            await _write_guarded(work, guarded, grant)


def _note_end(record: LockRecord, grant: Grant, believed_until: float) -> None:
    now = now_ns()
    record.believed_until_ns = min(now, round(believed_until * NS))
    if grant.lost:
        record.lost_ns = now
    else:
        record.released_ns = now


async def _write_guarded(work: Work, path: str, grant: Grant) -> None:
    if await work.client.exists(path) is None:
        await work.client.create(path, work.value(), guard=grant)
    else:
        await work.client.set(path, work.value(), guard=grant)


# ---------------------------------------------------------------------------------------------
# Counters


async def count(work: Work) -> None:
    """Set a node of its own to 1, 2, 3, ...: a write that is lost or repeated shows in its version."""
    path = f"/counter-{work.name}"
    while not work.stop.is_set():
        with contextlib.suppress(CoordError):
            await work.client.ensure_path(path)
            break
        await work.rest()
    number = 0
    while not work.stop.is_set():
        number += 1
        with contextlib.suppress(CoordError):
            await work.client.set(path, str(number).encode())
        await work.rest()


ROLES: dict[str, Role] = {
    "writer": write,
    "reader": read,
    "watcher": watch,
    "holder": hold_lock,
    "leader": lead,
    "counter": count,
}
