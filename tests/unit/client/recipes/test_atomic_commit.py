"""AtomicCommit: all or none, one decision, and nobody waits for somebody who crashed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from coordclient import (
    AsyncClient,
    Client,
    ClientClosedError,
    InvalidArgumentError,
    OutcomeUnknownError,
    RequestTimeoutError,
)
from coordclient.recipes.atomic_commit import AsyncAtomicCommit, AtomicCommit, Decision, Proposal
from coordclient.recipes.commit_ledger import Ledger
from coordclient.recipes.commit_records import CommitLayout, pack_proposal
from coordsvc.testing import Server
from tests.unit.client.conftest import Connect
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer
from tests.unit.client.recipes.session_losses import lose_session, settled

PATH = "/commits/a"
LAYOUT = CommitLayout(PATH)
PROPOSALS = LAYOUT.proposals


@dataclass(eq=False)
class Participant:
    """A participant that notes what it is asked, and votes as it is told."""

    name: str
    votes: bool = True
    asked: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    failure: Exception | None = None
    task: asyncio.Task[None] | None = None

    async def prepare(self, proposal: Proposal) -> bool:
        self.asked.append("prepare")
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return self.votes

    def commit(self, proposal: Proposal) -> None:
        self.asked.append("commit")
        if self.failure is not None:
            raise self.failure

    async def abort(self, proposal: Proposal) -> None:
        self.asked.append("abort")

    def start(self, client: AsyncClient) -> asyncio.Task[None]:
        work = AsyncAtomicCommit(client, PATH).participate(self.name, self.prepare, self.commit, self.abort)
        self.task = asyncio.create_task(work)
        return self.task

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])


Start = Callable[[Participant], Awaitable[Participant]]


@pytest.fixture
async def start(connect: Connect) -> AsyncIterator[Start]:
    """Start participants, each with a client of its own; they are stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start_one(participant: Participant) -> Participant:
            participant.start(await connect(name=participant.name))
            stack.push_async_callback(participant.stop)
            return participant

        yield start_one


async def recorded(client: AsyncClient, names: tuple[str, ...], *, timeout_ms: int = 30_000) -> str:
    """Record a proposal, as a coordinator does that crashes right afterwards."""
    proposal_id = "0123456789abcdef" * 2
    await Ledger(client, LAYOUT).ensure()
    await client.create(LAYOUT.proposal(proposal_id), pack_proposal(names, b"value", timeout_ms, "crashed"))
    return proposal_id


async def finished(server: FakeServer) -> None:
    """Return when all have carried out what was proposed."""
    await eventually(lambda: server.names(PROPOSALS) == [])


# ---------------------------------------------------------------------------------------------
# The usual ends


async def test_all_commit_when_all_vote_yes(client: AsyncClient, start: Start, server: FakeServer) -> None:
    participants = [await start(Participant(name)) for name in ("a", "b", "c")]
    decision = await AsyncAtomicCommit(client, PATH).propose(["a", "b", "c"], b"value")
    await finished(server)

    assert decision.committed
    assert decision.votes == {"a": True, "b": True, "c": True}
    assert [participant.asked for participant in participants] == [["prepare", "commit"]] * 3


async def test_all_abort_when_one_votes_no(client: AsyncClient, start: Start, server: FakeServer) -> None:
    yes, no = await start(Participant("yes")), await start(Participant("no", votes=False))
    decision = await AsyncAtomicCommit(client, PATH).propose(["yes", "no"])
    await finished(server)

    assert not decision.committed
    assert "no voted no" in decision.reason
    assert "commit" not in yes.asked + no.asked
    assert yes.asked[-1] == no.asked[-1] == "abort"


async def test_a_participant_that_cannot_prepare_votes_no(
    client: AsyncClient, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    await start(Participant("a", failure=RuntimeError("disk full")))
    decision = await AsyncAtomicCommit(client, PATH).propose(["a"])

    assert not decision.committed
    assert "disk full" in caplog.text


async def test_callbacks_get_what_was_proposed(connect: Connect, start: Start, server: FakeServer) -> None:
    seen: list[Proposal] = []

    def prepare(proposal: Proposal) -> bool:
        seen.append(proposal)
        return True

    client = await connect(name="coordinator")
    work = AsyncAtomicCommit(client, PATH).participate("a", prepare, seen.append, seen.append)
    task = asyncio.create_task(work)
    decision = await AsyncAtomicCommit(client, PATH).propose(["a"], b"order 7", timeout=5)
    await finished(server)
    task.cancel()
    await asyncio.wait([task])

    assert [proposal.id for proposal in seen] == [decision.id] * 2
    assert [proposal.committed for proposal in seen] == [None, True]
    assert seen[0].value == b"order 7"
    assert seen[0].participants == ("a",)
    assert seen[0].coordinator == "coordinator"


async def test_proposals_are_carried_out_one_after_the_other(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    participant = await start(Participant("a"))
    commit = AsyncAtomicCommit(client, PATH)
    decisions = await asyncio.gather(*(commit.propose(["a"]) for _ in range(5)))
    await finished(server)

    assert all(decision.committed for decision in decisions)
    assert sorted(participant.asked) == ["commit"] * 5 + ["prepare"] * 5


async def test_strangers_are_not_asked(client: AsyncClient, start: Start, server: FakeServer) -> None:
    stranger = await start(Participant("stranger"))
    await start(Participant("a"))
    await AsyncAtomicCommit(client, PATH).propose(["a"])
    await finished(server)

    assert stranger.asked == []


async def test_open_proposals_can_be_seen(client: AsyncClient, start: Start, server: FakeServer) -> None:
    await start(Participant("a"))
    proposal_id = await recorded(client, ("a", "missing"))
    await eventually(lambda: "vote-a" in server.names(LAYOUT.proposal(proposal_id)))
    (proposal,) = await AsyncAtomicCommit(client, PATH).proposals()

    assert (proposal.id, proposal.votes, proposal.committed) == (proposal_id, {"a": True}, None)


# ---------------------------------------------------------------------------------------------
# Time


async def test_a_missing_vote_aborts_at_the_deadline_of_the_services_clock(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    await start(Participant("a"))
    proposing = asyncio.create_task(AsyncAtomicCommit(client, PATH).propose(["a", "missing"], timeout=0.05))
    await eventually(lambda: len(server.names(PROPOSALS)) == 1)
    proposal = LAYOUT.proposal(server.names(PROPOSALS)[0][2:])
    await eventually(lambda: "vote-a" in server.names(proposal))
    assert "decision" not in server.names(proposal), "the service's clock stands still"
    server.tree.now_ms += 50
    decision = await proposing

    assert not decision.committed
    assert decision.reason == "no vote in time from missing"


async def test_a_vote_that_comes_too_late_sees_the_decision(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    late = Participant("late", hold=asyncio.Event())
    await start(late)
    proposal_id = await recorded(client, ("late",))
    await eventually(lambda: late.asked == ["prepare"])
    commit = AsyncAtomicCommit(client, PATH)
    (proposal,) = await commit.proposals()
    await Ledger(client, LAYOUT).decide(proposal, Decision(proposal_id, False, "too late"))
    assert late.hold is not None
    late.hold.set()
    await finished(server)

    assert late.asked == ["prepare", "abort"]
    assert (await Ledger(client, LAYOUT).decision(proposal_id)).votes == {}, "it was too late to vote"


async def test_a_coordinator_alone_aborts_at_the_deadline_and_not_before(
    client: AsyncClient, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    proposing = asyncio.create_task(AsyncAtomicCommit(client, PATH).propose(["missing"], timeout=0.05))
    # It asks for the time, finds that it is too early, and asks again when it should be time.
    await eventually(
        lambda: PROPOSALS in server.tree.nodes and server.tree.nodes[PROPOSALS].stat.version >= 2
    )
    assert not proposing.done()
    server.tree.now_ms += 50

    assert not (await proposing).committed


async def test_the_first_decision_counts(connect: Connect) -> None:
    first, second = await connect(), await connect()
    proposal_id = await recorded(first, ("a",))
    (proposal,) = await AsyncAtomicCommit(first, PATH).proposals()
    aborted = await Ledger(first, LAYOUT).decide(proposal, Decision(proposal_id, False, "first"))
    told = await Ledger(second, LAYOUT).decide(proposal, Decision(proposal_id, True))

    assert aborted == told == Decision(proposal_id, False, "first")


# ---------------------------------------------------------------------------------------------
# Crashes of the coordinator


async def test_participants_finish_what_a_crashed_coordinator_left(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    server.tree.now_ms = 1_000_000
    participants = [await start(Participant(name)) for name in ("a", "b")]
    proposal_id = await recorded(client, ("a", "b"), timeout_ms=30)
    await eventually(lambda: len(server.names(LAYOUT.proposal(proposal_id))) == 2)
    server.tree.now_ms += 30
    await finished(server)

    assert [participant.asked for participant in participants] == [["prepare", "commit"]] * 2


async def test_anybody_may_decide_before_the_deadline_if_all_have_voted(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    await start(Participant("a"))
    proposal_id = await recorded(client, ("a",))
    await eventually(lambda: server.names(LAYOUT.proposal(proposal_id)) == ["vote-a"])
    decisions = await AsyncAtomicCommit(client, PATH).recover()
    await finished(server)

    assert [(decision.id, decision.committed) for decision in decisions] == [(proposal_id, True)]


async def test_recovery_lets_be_what_has_time_left(client: AsyncClient, server: FakeServer) -> None:
    server.tree.now_ms = 1_000_000
    await recorded(client, ("missing",), timeout_ms=1000)
    commit = AsyncAtomicCommit(client, PATH)
    server.tree.now_ms += 999
    assert await commit.recover() == []
    server.tree.now_ms += 1
    (decision,) = await commit.recover()

    assert not decision.committed
    assert await commit.recover() == [], "it is decided once"


async def test_recovery_removes_what_all_have_carried_out(client: AsyncClient, server: FakeServer) -> None:
    proposal_id = await recorded(client, ("a",))
    commit = AsyncAtomicCommit(client, PATH)
    (proposal,) = await commit.proposals()
    await Ledger(client, LAYOUT).decide(proposal, Decision(proposal_id, False, "why"))
    await client.create(LAYOUT.done(proposal_id, "a"))
    await commit.recover()

    assert server.names(PROPOSALS) == []
    assert await Ledger(client, LAYOUT).decision(proposal_id) == Decision(proposal_id, False, "why")


async def test_a_cancelled_coordinator_aborts(client: AsyncClient, start: Start, server: FakeServer) -> None:
    held = Participant("a", hold=asyncio.Event())
    await start(held)
    proposing = asyncio.create_task(AsyncAtomicCommit(client, PATH).propose(["a"]))
    await eventually(lambda: held.asked == ["prepare"])
    proposing.cancel()
    await asyncio.wait([proposing])
    await settled(client)
    assert held.hold is not None
    held.hold.set()
    await finished(server)

    assert held.asked == ["prepare", "abort"]


async def test_a_coordinator_that_comes_back_late_learns_what_was_decided(
    client: AsyncClient, server: FakeServer
) -> None:
    """Others have decided, carried out and removed the record meanwhile."""
    proposal_id = await recorded(client, ("a",))
    ledger = Ledger(client, LAYOUT)
    (proposal,) = await AsyncAtomicCommit(client, PATH).proposals()
    await ledger.decide(proposal, Decision(proposal_id, False, "why"))
    (proposal,) = await AsyncAtomicCommit(client, PATH).proposals()
    await ledger.remove(proposal)
    await ledger.remove(proposal)

    assert await ledger.decide(proposal, Decision(proposal_id, True)) == Decision(proposal_id, False, "why")
    server.delete(LAYOUT.outcome(proposal_id))
    with pytest.raises(OutcomeUnknownError):
        await ledger.decide(proposal, Decision(proposal_id, True))


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize("which", ["proposal", "decision"])
async def test_a_coordinator_that_loses_its_session_goes_on(
    client: AsyncClient, start: Start, server: FakeServer, is_applied: bool, which: str
) -> None:
    participant = await start(Participant("a"))
    await Ledger(client, LAYOUT).ensure()
    suffix = "/decision" if which == "decision" else ""

    def is_the_one(frame: ClientFrame) -> bool:
        return any(
            operation.create.path.startswith(f"{PROPOSALS}/p-") and operation.create.path.endswith(suffix)
            for write in frame.writes.writes
            for operation in write.transaction.success
        )

    lose_session(server, client, is_applied=is_applied, at=is_the_one)
    decision = await AsyncAtomicCommit(client, PATH).propose(["a"])
    await finished(server)

    assert decision.committed
    assert participant.asked == ["prepare", "commit"], "it was proposed once"


async def test_a_coordinator_that_reaches_nobody_ends_in_time(connect: Connect, server: FakeServer) -> None:
    client = await connect(request_timeout=0.1)
    server.is_silent = True
    server.drop_connections()
    with pytest.raises(RequestTimeoutError) as failed:
        await AsyncAtomicCommit(client, PATH).propose(["a"], timeout=0.1)

    assert failed.value.may_have_been_applied


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
async def test_senseless_proposals_are_refused(client: AsyncClient, timeout: float) -> None:
    commit = AsyncAtomicCommit(client, PATH)
    with pytest.raises(InvalidArgumentError):
        await commit.propose(["a"], timeout=timeout)
    with pytest.raises(InvalidArgumentError):
        await commit.propose([])
    with pytest.raises(InvalidArgumentError):
        await commit.participate("a/b", bool, print, print)


# ---------------------------------------------------------------------------------------------
# Crashes of participants


async def test_a_participant_that_crashed_after_its_vote_finishes_when_it_is_back(
    connect: Connect, server: FakeServer
) -> None:
    before, after = Participant("a"), Participant("a")
    client = await connect()
    before.start(client)
    proposal_id = await recorded(client, ("a",))
    await eventually(lambda: server.names(LAYOUT.proposal(proposal_id)) == ["vote-a"])
    await before.stop()
    await AsyncAtomicCommit(client, PATH).recover()
    after.start(await connect())
    await finished(server)
    await after.stop()

    assert before.asked == ["prepare"]
    assert after.asked == ["commit"], "its vote was kept"


async def test_a_failing_commit_comes_out_and_is_tried_again_next_time(
    connect: Connect, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect()
    participant = Participant("a")
    task = participant.start(client)
    proposal_id = await recorded(client, ("a",))
    await eventually(lambda: server.names(LAYOUT.proposal(proposal_id)) == ["vote-a"])
    participant.failure = RuntimeError("disk full")
    await AsyncAtomicCommit(client, PATH).recover()
    with pytest.raises(RuntimeError, match="disk full"):
        await task
    participant.failure = None
    participant.start(client)
    await finished(server)
    await participant.stop()

    assert participant.asked == ["prepare", "commit", "commit"]


async def test_a_participant_that_loses_its_session_while_it_prepares_is_asked_again(
    connect: Connect, server: FakeServer
) -> None:
    participant = Participant("a", hold=asyncio.Event())
    theirs, ours = await connect(), await connect()
    participant.start(theirs)
    proposing = asyncio.create_task(AsyncAtomicCommit(ours, PATH).propose(["a"]))
    await eventually(lambda: participant.asked == ["prepare"])
    server.expire(theirs.session_id)
    await eventually(lambda: participant.asked == ["prepare", "prepare"])
    assert participant.hold is not None
    participant.hold.set()

    assert (await proposing).committed
    await finished(server)
    await participant.stop()
    assert participant.asked == ["prepare", "prepare", "commit"]


@pytest.mark.parametrize("is_applied", [True, False], ids=["applied", "not applied"])
async def test_a_participant_that_loses_its_session_while_it_votes_votes_once(
    connect: Connect, server: FakeServer, is_applied: bool
) -> None:
    participant = Participant("a")
    theirs, ours = await connect(), await connect()
    participant.start(theirs)
    await eventually(lambda: server.watch_count() > 1)
    lose_session(server, theirs, is_applied=is_applied, at=_holds_vote)
    decision = await AsyncAtomicCommit(ours, PATH).propose(["a"])
    await finished(server)
    await participant.stop()

    assert decision.committed
    assert participant.asked == (["prepare"] if is_applied else ["prepare", "prepare"]) + ["commit"]


def _holds_vote(frame: ClientFrame) -> bool:
    return any(
        "/vote-" in operation.create.path
        for write in frame.writes.writes
        for operation in write.transaction.success
    )


async def test_one_process_takes_part_under_a_name(connect: Connect, server: FakeServer) -> None:
    active, standby = Participant("a"), Participant("a")
    client = await connect()
    active.start(await connect())
    await eventually(lambda: len(server.names(f"{LAYOUT.participants}/a")) == 1)
    standby.start(await connect())
    await eventually(lambda: len(server.names(f"{LAYOUT.participants}/a")) == 2)
    commit = AsyncAtomicCommit(client, PATH)
    await commit.propose(["a"])
    await finished(server)
    await active.stop()
    await commit.propose(["a"])
    await finished(server)
    await standby.stop()

    assert active.asked == standby.asked == ["prepare", "commit"]


async def test_participants_hear_of_new_proposals_over_lost_connections(
    client: AsyncClient, start: Start, server: FakeServer
) -> None:
    await start(Participant("a"))
    await eventually(lambda: len(server.names(f"{LAYOUT.participants}/a")) == 1)
    server.drop_connections()

    assert (await AsyncAtomicCommit(client, PATH).propose(["a"])).committed


async def test_a_participant_ends_with_its_client(connect: Connect, server: FakeServer) -> None:
    client = await connect()
    task = Participant("a").start(client)
    await eventually(lambda: len(server.names(f"{LAYOUT.participants}/a")) == 1)
    await client.close()

    with pytest.raises(ClientClosedError):
        await task


async def test_a_stopped_participant_leaves_nothing(client: AsyncClient, server: FakeServer) -> None:
    driver, core = client._driver, client._core
    assert driver is not None
    assert core is not None
    tasks, listeners = len(asyncio.all_tasks()), driver.listener_count
    for _ in range(5):
        participant = Participant("a")
        participant.start(client)
        assert (await AsyncAtomicCommit(client, PATH).propose(["a"])).committed
        await finished(server)
        await participant.stop()
    await settled(client)

    assert len(asyncio.all_tasks()) == tasks
    assert driver.listener_count == listeners
    assert len(core.watches) == 0
    assert server.names(f"{LAYOUT.participants}/a") == []
    assert server.names(LAYOUT.receipts) == []


# ---------------------------------------------------------------------------------------------
# For threads, and on a real server


def test_threads_commit_together() -> None:
    asked: list[tuple[str, bytes]] = []
    committed = threading.Event()

    with Server() as server, Client(server.endpoints) as client, Client(server.endpoints) as other:

        def prepare(proposal: Proposal) -> bool:
            asked.append(("prepare", other.create("/prepared", proposal.value).encode()))
            return True

        def commit(proposal: Proposal) -> None:
            asked.append(("commit", proposal.value))
            committed.set()

        def abort(proposal: Proposal) -> None:
            asked.append(("abort", proposal.value))

        def take_part() -> None:
            with pytest.raises(ClientClosedError):
                AtomicCommit(other, PATH).participate("a", prepare, commit, abort)

        thread = threading.Thread(target=take_part)
        thread.start()
        atomic = AtomicCommit(client, PATH)
        decision = atomic.propose(["a"], b"order")
        assert committed.wait(20)
        missing = atomic.propose(["a", "missing"], b"late", timeout=0.3)
        assert not missing.committed
        assert [proposal.committed for proposal in atomic.proposals()] == [False]
        assert atomic.recover() == []
        other.close()
        thread.join(20)

    assert decision.committed
    assert asked[:2] == [("prepare", b"/prepared"), ("commit", b"order")]
