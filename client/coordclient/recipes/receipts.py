"""Receipts: whether a transaction was carried out whose answer went down with its session.

Within a session each write is applied exactly once. Only when the session is lost while a write is under
way, nobody tells what became of it. So the transaction leaves a node under a name that only this attempt
knows, and whoever finds it in the next session knows that all the rest happened, too.

Not to find it proves nothing: a session is given up by the local clock, a little before the service does
so, and a write that is still on its way may arrive in between. So whoever asks makes the node itself. If
that succeeds, the late transaction cannot make it any more, and fails as a whole.

Rule of this file: an attempt is repeated only once it is certain that it was not carried out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from coordclient import clock
from coordclient.errors import (
    BadVersionError,
    CheckFailedError,
    ClientClosedError,
    NodeExistsError,
    NoNodeError,
    OutcomeUnknownError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER
from coordclient.transactions import AsyncTransaction, TransactionBuilder
from coordclient.types import Created, Guard, OperationResult

RECEIPT_SECONDS = 3600.0
APPLIED = b"applied"
GIVEN_UP = b"given up"
_CHANGED = (NoNodeError, NodeExistsError, CheckFailedError, BadVersionError)
_TRUSTED_SECONDS = RECEIPT_SECONDS * 0.9  # a receipt that is not there after this may have been removed


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a transaction was carried out.

    Attributes:
        zxid: The transaction.
    """

    zxid: int


class NotAppliedError(Exception):
    """The session ended, and the transaction was certainly not carried out. Stays within the recipes."""


class MissingFolderError(Exception):
    """The transaction was refused: a folder that it creates in is not there. Stays within the recipes."""


class ChangedError(Exception):
    """The transaction was refused: something has changed since we looked. Stays within the recipes."""


Fill = Callable[[TransactionBuilder], None]


async def commit_with_receipt(
    client: Operations, folder: str, fill: Fill, *, guard: Guard | None = None
) -> Receipt:
    """Carry a transaction out once, and say for certain whether it was.

    Args:
        folder: Where receipts are kept.
        fill: Adds the operations.

    Raises:
        NotAppliedError: The session was lost before the transaction was carried out.
        MissingFolderError: Refused; make the folders and call this again.
        ChangedError: Refused; look again.
        RequestError: Refused for another reason.
        OutcomeUnknownError: Nobody could be asked for so long that the receipt may have been removed.
    """
    path = f"{folder}/{uuid.uuid4().hex}"
    transaction = client.transaction(guard=guard, timeout=FOREVER)
    fill(transaction)
    transaction.create(path, APPLIED, ttl=RECEIPT_SECONDS)
    begun = clock.now()
    try:
        created = (await commit(transaction))[-1]
    except (SessionExpiredError, OutcomeUnknownError) as error:
        if not error.may_have_been_applied:
            raise NotAppliedError from error
        receipt = await _settle(client, path, begun)
        if receipt is None:
            raise NotAppliedError from error
    else:
        assert isinstance(created, Created)
        receipt = Receipt(created.stat.czxid)
    client.janitor.start(_remove(client, path), "receipt")
    return receipt


async def commit(transaction: AsyncTransaction) -> list[OperationResult]:
    """Carry a transaction out; raises what `commit_with_receipt` does, and SessionExpiredError."""
    try:
        return await transaction.commit()
    except TransactionError as error:
        if error.cause is None or error.failed_index is None:
            raise
        operation = transaction.operations[error.failed_index].WhichOneof("op")
        if isinstance(error.cause, NoNodeError) and operation == "create":
            raise MissingFolderError from error
        if isinstance(error.cause, _CHANGED):
            raise ChangedError from error
        raise error.cause from error


async def _settle(client: Operations, path: str, begun: float) -> Receipt | None:
    """Find the receipt, or see to it that there will never be one."""
    while True:
        try:
            node = await client.get(path, timeout=FOREVER)
        except SessionExpiredError:
            continue
        except NoNodeError:
            _check_kept(path, begun)
            if await _give_up(client, path):
                return None
            continue
        return Receipt(node.stat.czxid) if node.value == APPLIED else None


async def _give_up(client: Operations, path: str) -> bool:
    """Make the node in place of the transaction. False: it must be looked for again."""
    folder = path.rpartition("/")[0]
    try:
        await ensure_containers(client, (folder.rpartition("/")[0], folder))
        await client.create(path, GIVEN_UP, ttl=RECEIPT_SECONDS, timeout=FOREVER)
    except (NoNodeError, NodeExistsError, SessionExpiredError, OutcomeUnknownError):
        return False
    return True


def _check_kept(path: str, begun: float) -> None:
    """Raise if a receipt that was there may have been removed meanwhile."""
    if clock.now() - begun > _TRUSTED_SECONDS:
        raise OutcomeUnknownError(
            f"the service could not be reached for {clock.now() - begun:.0f} s, and it is no longer known"
            " whether the request was carried out",
            path=path,
        )


async def _remove(client: Operations, path: str) -> None:
    """Remove a receipt that has served its purpose. If the session ends first, the service does so later."""
    try:
        await client.delete(path, missing_ok=True, timeout=FOREVER)
    except (SessionExpiredError, ClientClosedError):
        return


async def ensure_containers(client: Operations, paths: tuple[str, ...]) -> None:
    """Make sure that containers are there; the service removes them when they have been empty for a while."""
    for path in paths:
        try:
            await client.create(path, container=True, parents=path == paths[0], timeout=FOREVER)
        except NodeExistsError:
            continue
