"""A program that uses every public name of the SDK, for mypy: `make check` reads it with --strict.

Nobody runs it. `assert_type` says what an application sees in its editor.

Rule of this file: public imports only, and no cast, no ignore.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, assert_type

import coordclient as sdk
from coordclient import AsyncClient, Client

# ---------------------------------------------------------------------------------------------
# For threads


def znodes(client: Client) -> None:
    assert_type(client.create("/a", b"", ephemeral=True, linger=1.0), str)
    created = client.create_node("/a")
    assert_type(created, sdk.Created)
    node = client.get("/a", consistency=sdk.Consistency.SESSION)
    assert_type(node, sdk.Node)
    assert_type(client.set("/a", b"", version=node.stat.version, guard=("/a", created.stat.czxid)), sdk.Stat)
    assert_type(client.exists("/a"), sdk.Stat | None)
    assert_type(client.state, sdk.State)
    with client.transaction() as transaction:
        assert_type(transaction, sdk.Transaction)
        transaction.delete("/a")
    for result in transaction.results:
        if isinstance(result, sdk.Deleted):
            assert_type(result.count, int)
        elif isinstance(result, sdk.Checked):
            return
    with client.watch("/a") as events:
        assert_type(events, sdk.Watch)
        for event in events:
            assert_type(event, sdk.Event)
            if event.type is sdk.EventType.RESYNC:
                break


def held_by_a_thread(client: Client) -> None:
    lock = client.lock("/l", reentrant=True, lock_delay=1.0)
    assert_type(lock, sdk.Lock)
    with lock as held:
        assert_type(held, sdk.LockHandle)
        assert_type(held.lost, sdk.BlockingSignal)
        client.set("/a", b"", guard=held)
    assert_type(lock.contenders(), list[sdk.Contender])
    assert_type(lock.try_acquire(), sdk.LockHandle | None)

    both = client.read_write_lock("/rw")
    assert_type(both, sdk.ReadWriteLock)
    assert_type(both.read(), sdk.ReadLock)
    assert_type(both.write(), sdk.WriteLock)
    with both.write() as writing:
        assert_type(writing, sdk.WriteHandle)
        reading = writing.downgrade()
        assert_type(reading, sdk.ReadHandle)
        assert_type(reading.try_upgrade(), sdk.WriteHandle | None)

    semaphore = client.semaphore("/s", 3)
    assert_type(semaphore, sdk.Semaphore)
    with semaphore as permit:
        assert_type(permit, sdk.Permit)
    election = client.election("/e")
    assert_type(election, sdk.Election)
    with election.lead() as term:
        assert_type(term, sdk.LeaderTerm)
    for leader in election.observe():
        assert_type(leader, sdk.Leader | None)
    token(held)


def token(held: sdk.BlockingGrant[Any]) -> int:  # of any kind
    return held.token


def meeting(client: Client) -> None:
    barrier = client.barrier("/b")
    assert_type(barrier, sdk.Barrier)
    double = client.double_barrier("/d", 2)
    assert_type(double, sdk.DoubleBarrier)
    assert_type(double.enter(), sdk.BarrierRound)
    group = client.group("/g")
    assert_type(group, sdk.Group)
    assert_type(group.join(), sdk.Membership)
    assert_type(group.members(), sdk.GroupView)
    assert_type(group.members().members, Mapping[str, bytes])
    partitioner = client.partitioner("/p", ["x"])
    assert_type(partitioner, sdk.Partitioner)
    for change in partitioner.changes():
        assert_type(change, sdk.Assigned[sdk.PartitionHandle] | sdk.Revoked[sdk.PartitionHandle])


@dataclass(frozen=True)
class Settings:
    workers: int = 1


def decode(value: bytes) -> Settings:
    return Settings(int(value))


def values(client: Client) -> None:
    counter = client.counter("/c")
    assert_type(counter, sdk.Counter)
    assert_type(counter.add(1), sdk.CounterChange)
    with client.config("/s", decode=decode, default=Settings()) as settings:
        assert_type(settings, sdk.ConfigValue[Settings])
        assert_type(settings.value, Settings)
    with client.tree_cache("/t") as cache:
        assert_type(cache, sdk.TreeCache)
        for change in cache.changes():
            assert_type(change, sdk.CacheChange)


def lists_of_work(client: Client) -> None:
    queue = client.queue("/q")
    assert_type(queue, sdk.Queue)
    assert_type(queue.get(), sdk.QueueItem)
    work = client.work_queue("/w")
    assert_type(work, sdk.WorkQueue)
    with work.claim() as claim:
        assert_type(claim, sdk.Claim)
    assert_type(work.claims(), list[sdk.ClaimInfo])
    assert_type(work.dead_letters(), list[sdk.DeadLetter])
    commit = client.atomic_commit("/x")
    assert_type(commit, sdk.AtomicCommit)
    assert_type(commit.propose(["a"]), sdk.Decision)
    commit.participate("a", agree, carry_out, carry_out)


def agree(proposal: sdk.Proposal) -> bool:
    return proposal.value != b""


def carry_out(proposal: sdk.Proposal) -> None:
    print(proposal.id)


class DiskCheck(sdk.PeriodicCheck):
    """A check of the application's own."""

    @property
    def label(self) -> str:
        return "disk"

    async def probe(self) -> sdk.CheckResult:
        return sdk.CheckResult(sdk.Status.WARNING, "nearly full")


def services(client: Client) -> None:
    assert_type(client.services, sdk.ServiceRegistry)
    checks: list[sdk.Check] = [
        sdk.HttpCheck("http://127.0.0.1/"),
        sdk.TcpCheck("127.0.0.1:1"),
        sdk.GrpcCheck("127.0.0.1:1"),
        sdk.TtlCheck(1.0),
        sdk.CallableCheck(lambda: True),
        DiskCheck(),
    ]
    with client.services.register("api", "10.0.0.7", 8080, health=checks) as registration:
        assert_type(registration, sdk.Registration)
    assert_type(client.services.discover("api"), list[sdk.Instance])
    for instances in client.services.watch("api"):
        assert_type(instances, sdk.Instances)
    with client.services.pool("api") as pool:
        assert_type(pool, sdk.ServicePool)
        use = pool.use()
        assert_type(use, sdk.Use)


# ---------------------------------------------------------------------------------------------
# For asyncio


async def held_by_a_task(client: AsyncClient) -> None:
    lock = client.lock("/l")
    assert_type(lock, sdk.AsyncLock)
    async with lock as held:
        assert_type(held, sdk.AsyncLockHandle)
        assert_type(held.lost, sdk.Loss)
        assert_type(held.revoke_requested, sdk.Signal)
        show(held)
    both = client.read_write_lock("/rw")
    assert_type(both, sdk.AsyncReadWriteLock)
    assert_type(both.read(), sdk.AsyncReadLock)
    assert_type(both.write(), sdk.AsyncWriteLock)
    async with both.write() as writing:
        assert_type(writing, sdk.AsyncWriteHandle)
        assert_type(await writing.downgrade(), sdk.AsyncReadHandle)
    semaphore = client.semaphore("/s", 3)
    assert_type(semaphore, sdk.AsyncSemaphore)
    assert_type(await semaphore.acquire(), sdk.AsyncPermit)
    election = client.election("/e")
    assert_type(election, sdk.AsyncElection)
    async with election.lead() as term:
        assert_type(term, sdk.Term)
    assert_type(client.watch("/a"), sdk.WatchStream)
    assert_type(client.transaction(), sdk.AsyncTransaction)


def show(grant: sdk.Grant) -> tuple[str, int]:
    return grant.guard


async def met_by_tasks(client: AsyncClient) -> None:
    assert_type(client.barrier("/b"), sdk.AsyncBarrier)
    double = client.double_barrier("/d", 2)
    assert_type(double, sdk.AsyncDoubleBarrier)
    assert_type(await double.enter(), sdk.AsyncBarrierRound)
    group = client.group("/g")
    assert_type(group, sdk.AsyncGroup)
    async with await group.join("me") as membership:
        assert_type(membership, sdk.AsyncMembership)
    async with client.partitioner("/p", ["x"]) as partitioner:
        assert_type(partitioner, sdk.AsyncPartitioner)
        assert_type(partitioner.owned, Mapping[str, sdk.AsyncPartitionHandle])


async def values_of_tasks(client: AsyncClient) -> None:
    assert_type(client.counter("/c"), sdk.AsyncCounter)
    async with client.config("/s", decode=decode, default=Settings()) as settings:
        assert_type(settings, sdk.AsyncConfigValue[Settings])
        assert_type(await settings.update(lambda old: old), Settings)
    async with client.tree_cache("/t") as cache:
        assert_type(cache, sdk.AsyncTreeCache)
    assert_type(client.queue("/q"), sdk.AsyncQueue)
    work = client.work_queue("/w")
    assert_type(work, sdk.AsyncWorkQueue)
    assert_type(work.consume(), AsyncIterator[sdk.AsyncClaim])
    assert_type(client.atomic_commit("/x"), sdk.AsyncAtomicCommit)
    assert_type(client.services, sdk.AsyncServiceRegistry)
    assert_type(await client.services.register("api", "10.0.0.7", 1), sdk.AsyncRegistration)
    async with client.services.pool("api") as pool:
        assert_type(pool, sdk.AsyncServicePool)


# ---------------------------------------------------------------------------------------------
# Errors


def refused(error: sdk.RequestError) -> str:
    """Say why the service refused."""
    match error:
        case sdk.BadVersionError():
            return f"{error.expected} {error.actual}"
        case sdk.CompareFailedError() | sdk.TransactionError():
            return f"{error.failed_index} {error.cause}"
        case (
            sdk.NoNodeError()
            | sdk.NodeExistsError()
            | sdk.NotEmptyError()
            | sdk.NoChildrenForEphemeralsError()
        ):
            return error.path
        case sdk.InvalidPathError() | sdk.InvalidArgumentError() | sdk.MalformedError():
            return error.message
        case sdk.GuardFailedError() | sdk.CheckFailedError() | sdk.AccessDeniedError():
            return error.path
        case sdk.TooManyWatchesError() | sdk.LimitExceededError() | sdk.HistoryTrimmedError():
            return error.message
        case sdk.SessionRequiredError():
            return error.message
    return str(error)


def went_wrong(error: sdk.CoordError) -> str:
    match error:
        case sdk.SessionExpiredError() | sdk.ConnectionLostError() | sdk.OutcomeUnknownError():
            return f"{error.may_have_been_applied}"
        case sdk.RequestTimeoutError() | sdk.RecipeTimeoutError() | sdk.LockTimeoutError():
            return str(TimeoutError(error))
        case (
            sdk.NotConnectedError() | sdk.ClientClosedError() | sdk.ForkedClientError() | sdk.WrongLoopError()
        ):
            return "wrong use"
        case sdk.ClientStateError():
            return "wrong state"
        case sdk.LockLostError():
            return f"{error.token}"
        case sdk.LockRevokedError() | sdk.AlreadyHeldError() | sdk.MismatchError():
            return error.path
        case sdk.MemberNameTakenError() | sdk.InstanceTakenError() | sdk.NoInstanceError():
            return error.path
        case sdk.CounterRangeError() | sdk.InvalidValueError() | sdk.RecipeError():
            return error.message
    return str(error)
