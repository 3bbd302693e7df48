"""Claims: whatever is refused at their beginning or end, no item stays with one who does not work on it."""

from __future__ import annotations

import pytest

from coordclient import AsyncClient, LimitExceededError
from coordclient.recipes.work_queue import AsyncWorkQueue
from coordproto.v1 import data_pb2
from tests.unit.client.fake_server import Code, FakeServer
from tests.unit.client.fake_tree import RefusedError
from tests.unit.client.recipes.session_losses import settled

PATH = "/jobs/a"
CLAIMS = f"{PATH}/items/claims"
VALUE_BYTES_MAX = 300


@pytest.fixture
def queue(client: AsyncClient) -> AsyncWorkQueue:
    return AsyncWorkQueue(client, PATH, attempts_max=2)


@pytest.fixture
def limit(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server refuse values that are larger than VALUE_BYTES_MAX, as the real one does."""
    create, change = server.tree._create, server.tree._set

    def check(path: str, value: bytes) -> None:
        if len(value) > VALUE_BYTES_MAX:
            raise RefusedError(Code.LIMIT_EXCEEDED, path)

    def limited_create(message: data_pb2.Create, session_id: int) -> data_pb2.Created:
        check(message.path, message.value)
        return create(message, session_id)

    def limited_set(message: data_pb2.Set) -> data_pb2.Stat:
        check(message.path, message.value)
        return change(message)

    monkeypatch.setattr(server.tree, "_create", limited_create)
    monkeypatch.setattr(server.tree, "_set", limited_set)


async def put_the_largest(queue: AsyncWorkQueue) -> bytes:
    """Put the largest item that the server takes."""
    for size in range(VALUE_BYTES_MAX, 0, -1):
        try:
            await queue.put(b"v" * size)
        except LimitExceededError:
            continue
        return b"v" * size
    raise AssertionError("not even the smallest fits")


@pytest.mark.usefixtures("limit")
async def test_the_largest_item_that_can_be_put_can_be_claimed_and_fail(queue: AsyncWorkQueue) -> None:
    """Else it would stand at the head of the queue for ever, and nobody would get what is behind it."""
    value = await put_the_largest(queue)
    for attempt in (1, 2):
        claim = await queue.claim()
        assert (claim.value, claim.attempt) == (value, attempt)
        await claim.give_back(reason="too long for what is left")

    assert [letter.value for letter in await queue.dead_letters()] == [value]
    assert await queue.size() == 0


@pytest.mark.usefixtures("limit")
async def test_the_largest_item_can_be_laid_aside_after_crashes(
    queue: AsyncWorkQueue, server: FakeServer
) -> None:
    value = await put_the_largest(queue)
    for _ in range(2):
        claim = await queue.claim()
        server.expire(claim.session_id)
        await claim.wait_lost()

    assert await queue.try_claim() is None
    assert [letter.value for letter in await queue.dead_letters()] == [value]


async def test_a_claim_whose_end_is_refused_is_given_up(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.put(b"value")
    claim = await queue.claim()
    create = server.tree._create

    def refuse_receipts(message: data_pb2.Create, session_id: int) -> data_pb2.Created:
        if "/receipts/" in message.path:
            raise RefusedError(Code.LIMIT_EXCEEDED, message.path)
        return create(message, session_id)

    with monkeypatch.context() as patch:
        patch.setattr(server.tree, "_create", refuse_receipts)
        with pytest.raises(LimitExceededError):
            await claim.acknowledge()

    assert server.names(CLAIMS) == []
    assert (await queue.claim()).value == b"value"


async def test_a_claim_that_cannot_be_watched_over_is_given_up(
    client: AsyncClient, queue: AsyncWorkQueue, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.put(b"value")

    async def refuse(path: str, *_: object, **__: object) -> None:
        raise LimitExceededError("a session may have so many watches", path=path)

    with monkeypatch.context() as patch:
        patch.setattr(client, "exists_with", refuse)
        with pytest.raises(LimitExceededError):
            await queue.try_claim()
    await settled(client)

    assert server.names(CLAIMS) == []
    claim = await queue.claim()
    assert claim.attempt == 1
