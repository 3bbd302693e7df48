"""The record of atomic commits: what its coordinator has given up is never committed, however late."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import AsyncClient, AsyncTransaction
from coordclient.recipes import receipts
from coordclient.recipes.atomic_commit import AsyncAtomicCommit, Decision
from coordclient.recipes.commit_ledger import Ledger
from coordclient.recipes.commit_records import CommitLayout, Vote, pack_proposal, pack_vote
from coordclient.recipes.receipts import ChangedError, commit
from coordclient.types import OperationResult
from coordproto.v1 import data_pb2
from tests.unit.client.eventually import eventually
from tests.unit.client.fake_server import ClientFrame, FakeServer
from tests.unit.client.recipes.session_losses import lose_session, settled

LAYOUT = CommitLayout("/commits/a")
ID = "0123456789abcdef" * 2
ABORTED = Decision(ID, False, "given up")


def asks_for_a_node(frame: ClientFrame) -> bool:
    return any(read.HasField("get") for read in frame.reads)


@pytest.fixture
async def ledger(client: AsyncClient) -> Ledger:
    return Ledger(client, LAYOUT)


async def test_a_record_that_arrives_after_its_coordinator_was_cancelled_is_refused(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent in a session that the client has given up, and the service has not yet."""
    late: list[AsyncTransaction] = []

    async def be_late(transaction: AsyncTransaction) -> list[OperationResult]:
        late.append(transaction)
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "commit", be_late)
        proposing = asyncio.create_task(AsyncAtomicCommit(client, LAYOUT.root).propose(["a"]))
        await eventually(lambda: late)
        proposing.cancel()
        await asyncio.wait([proposing])
    await settled(client)

    with pytest.raises(ChangedError):
        await commit(late[0])
    assert server.names(LAYOUT.proposals) == []


async def test_a_cancelled_coordinator_aborts_although_its_session_is_lost_then(
    client: AsyncClient, server: FakeServer
) -> None:
    atomic = AsyncAtomicCommit(client, LAYOUT.root)
    proposing = asyncio.create_task(atomic.propose(["a"]))
    await eventually(lambda: server.names(LAYOUT.proposals))
    await asyncio.sleep(0)
    lose_session(server, client, is_applied=False, at=asks_for_a_node)
    proposing.cancel()
    await asyncio.wait([proposing])
    await settled(client)
    (proposal,) = await atomic.proposals()

    assert proposal.committed is False


async def test_what_is_decided_is_not_aborted(client: AsyncClient, ledger: Ledger) -> None:
    await ledger.ensure()
    await client.create(LAYOUT.proposal(ID), pack_proposal(("a",), b"", 30_000, "coordinator"))
    await client.create(LAYOUT.vote(ID, "a"), pack_vote(Vote(True)))
    (proposal,) = await AsyncAtomicCommit(client, LAYOUT.root).proposals()
    decided = await ledger.settle(proposal, 0)
    assert decided is not None
    assert await ledger.abort(ID, "given up") == decided
    (proposal,) = await AsyncAtomicCommit(client, LAYOUT.root).proposals()
    await ledger.remove(proposal)

    assert await ledger.abort(ID, "given up") == decided


async def test_what_was_never_recorded_is_aborted_once(ledger: Ledger) -> None:
    assert await ledger.abort(ID, "given up") == ABORTED
    assert await ledger.abort(ID, "given up again") == ABORTED
    assert await ledger.decision(ID) == ABORTED


async def test_what_is_recorded_while_it_is_aborted_is_aborted(
    client: AsyncClient, ledger: Ledger, server: FakeServer
) -> None:
    await ledger.ensure()

    def record(frame: ClientFrame) -> None:
        if frame.writes.writes:
            server.on_frame = None
            server.set(LAYOUT.proposal(ID), pack_proposal(("a",), b"", 30_000, "coordinator"))

    server.on_frame = record
    assert await ledger.abort(ID, "given up") == ABORTED
    (proposal,) = await AsyncAtomicCommit(client, LAYOUT.root).proposals()

    assert proposal.committed is False


async def test_a_record_that_an_operator_deletes_stops_nobody(
    client: AsyncClient, ledger: Ledger, server: FakeServer
) -> None:
    """It is deleted just when a participant, or one who recovers, decides on it."""
    await ledger.ensure()
    server.tree.now_ms = 1_000_000
    atomic = AsyncAtomicCommit(client, LAYOUT.root)
    taking_part = asyncio.create_task(atomic.participate("a", lambda _: True, lambda _: None, lambda _: None))

    def delete(frame: ClientFrame) -> None:
        if any(
            operation.create.path == LAYOUT.decision(ID)
            for write in frame.writes.writes
            for operation in write.transaction.success
        ):
            server.on_frame = None
            server.write(data_pb2.Write(delete=data_pb2.Delete(path=LAYOUT.proposal(ID), recursive=True)))

    for decide in (atomic.recover, lambda: eventually(lambda: server.names(LAYOUT.proposals) == [])):
        await client.create(LAYOUT.proposal(ID), pack_proposal(("a", "missing"), b"", 30, "crashed"))
        server.on_frame = delete
        server.tree.now_ms += 30
        await decide()

    assert await atomic.propose(["a"]) is not None
    assert not taking_part.done()
    taking_part.cancel()
    await asyncio.wait([taking_part])
