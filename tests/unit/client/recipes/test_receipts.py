"""Receipts: what became of a transaction whose answer went down with its session."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coordclient import (
    AsyncClient,
    AsyncTransaction,
    GuardFailedError,
    NotEmptyError,
    OutcomeUnknownError,
    SessionExpiredError,
)
from coordclient.recipes import receipts
from coordclient.recipes.receipts import (
    RECEIPT_SECONDS,
    ChangedError,
    MissingFolderError,
    NotAppliedError,
    Receipt,
    commit,
    commit_with_receipt,
    ensure_containers,
)
from coordclient.transactions import TransactionBuilder
from coordclient.types import OperationResult
from tests.unit.client.fake_server import FakeServer
from tests.unit.client.recipes.session_losses import lose_session, settled

FOLDER = "/app/receipts"


@pytest.fixture(autouse=True)
async def folders(client: AsyncClient) -> None:
    await ensure_containers(client, ("/app", FOLDER))


def create_node(transaction: TransactionBuilder) -> None:
    transaction.create("/app/node")


async def test_a_receipt_names_the_transaction_and_is_removed(
    client: AsyncClient, server: FakeServer
) -> None:
    receipt = await commit_with_receipt(client, FOLDER, create_node)
    await settled(client)

    assert receipt == Receipt(server.tree.nodes["/app/node"].stat.czxid)
    assert server.names(FOLDER) == []


async def test_what_was_applied_before_the_session_was_lost_is_known(
    client: AsyncClient, server: FakeServer
) -> None:
    lose_session(server, client, is_applied=True)
    receipt = await commit_with_receipt(client, FOLDER, create_node)

    assert receipt == Receipt(server.tree.nodes["/app/node"].stat.czxid)


async def test_what_was_not_applied_is_known_too(client: AsyncClient, server: FakeServer) -> None:
    lose_session(server, client, is_applied=False)
    with pytest.raises(NotAppliedError):
        await commit_with_receipt(client, FOLDER, create_node)

    assert "/app/node" not in server.tree.nodes


async def test_a_transaction_that_was_given_up_can_never_be_applied_later(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is given up here before it is given up there: what is on its way may still arrive."""
    late: list[AsyncTransaction] = []

    async def be_late(transaction: AsyncTransaction) -> list[OperationResult]:
        late.append(transaction)
        error = SessionExpiredError()
        error.may_have_been_applied = True
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "commit", be_late)
        with pytest.raises(NotAppliedError):
            await commit_with_receipt(client, FOLDER, create_node)

    with pytest.raises(ChangedError):
        await commit(late[0])
    assert "/app/node" not in server.tree.nodes


async def test_after_the_life_of_a_receipt_nobody_knows(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, RECEIPT_SECONDS, RECEIPT_SECONDS])
    monkeypatch.setattr(receipts, "clock", SimpleNamespace(now=lambda: next(times)))
    lose_session(server, client, is_applied=False)
    with pytest.raises(OutcomeUnknownError, match="could not be reached for 3600 s"):
        await commit_with_receipt(client, FOLDER, create_node)


async def test_a_missing_folder_is_told_from_a_change(client: AsyncClient) -> None:
    def create_elsewhere(transaction: TransactionBuilder) -> None:
        transaction.create("/elsewhere/node")

    def delete_what_has_gone(transaction: TransactionBuilder) -> None:
        transaction.delete("/app/gone")

    def create_again(transaction: TransactionBuilder) -> None:
        transaction.create(FOLDER)

    with pytest.raises(MissingFolderError):
        await commit_with_receipt(client, FOLDER, create_elsewhere)
    with pytest.raises(MissingFolderError):
        await commit_with_receipt(client, "/no/receipts", create_node)
    with pytest.raises(ChangedError):
        await commit_with_receipt(client, FOLDER, delete_what_has_gone)
    with pytest.raises(ChangedError):
        await commit_with_receipt(client, FOLDER, create_again)


async def test_other_refusals_come_out_as_what_they_are(client: AsyncClient) -> None:
    with pytest.raises(GuardFailedError):
        await commit_with_receipt(client, FOLDER, create_node, guard=("/app", 12345))

    transaction = client.transaction()
    transaction.delete("/app")
    with pytest.raises(NotEmptyError):
        await commit(transaction)


async def test_containers_are_made_once(client: AsyncClient, server: FakeServer) -> None:
    before = server.tree.zxid
    await ensure_containers(client, ("/app", FOLDER))

    assert server.tree.zxid == before
