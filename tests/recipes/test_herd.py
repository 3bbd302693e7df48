"""No herd: what 200 contenders of one lock cost grows with the number of grants, and not faster.

Counted are the operations that clients send and the events that they receive, each by itself, however many
share a frame. Nothing here depends on time.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from coordclient import AsyncClient
from coordclient.pipeline import Operation
from coordclient.recipes.lock import AsyncLock
from coordclient.session import SessionCore
from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.testing import running_server

PATH = "/herd"
SESSIONS = 10
QUIET_ROUNDS = 3
# For each grant: create the contender, watch our node, list the contenders, watch the predecessor; after the
# event that it has gone, list once more; delete.
OPERATIONS_A_GRANT_MAX = 6
# Of these, when all are in the queue: delete, list.
OPERATIONS_A_HAND_OVER_MAX = 2
EVENTS_A_GRANT_MAX = 1


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many operations were submitted, and events delivered, by all clients of the process.

    Of the operations, those are counted once more that are reads for which a majority is asked.
    """
    counts: Counter[str] = Counter()
    submit, take_in = SessionCore.submit, SessionCore._take_in

    def counting_submit(core: SessionCore, operation: Operation) -> None:
        counts["operations"] += 1
        if operation.read is not None and operation.read.consistency == data_pb2.LINEARIZABLE:
            counts["reads of a majority"] += 1
        submit(core, operation)

    def counting_take_in(core: SessionCore, item: coordination_pb2.ServerItem, now: float) -> None:
        counts["events"] += item.WhichOneof("item") == "delivery"
        take_in(core, item, now)

    monkeypatch.setattr(SessionCore, "submit", counting_submit)
    monkeypatch.setattr(SessionCore, "_take_in", counting_take_in)
    return counts


async def hold_once(client: AsyncClient, order: list[int]) -> None:
    async with AsyncLock(client, PATH) as held:
        order.append(held.token)


async def until_all_wait(clients: list[AsyncClient], messages: Counter[str]) -> None:
    """Return when no client sends anything any more but what is sent here."""
    quiet_rounds = 0
    while quiet_rounds < QUIET_ROUNDS:
        sent = messages["operations"]
        for client in clients:
            await client.sync()
        quiet_rounds = quiet_rounds + 1 if messages["operations"] == sent + len(clients) else 0


@pytest.mark.parametrize("contenders", [50, 200])
async def test_the_messages_grow_with_the_grants(contenders: int, messages: Counter[str]) -> None:
    async with running_server() as server:
        clients = [await AsyncClient(server.endpoints).connect() for _ in range(SESSIONS)]
        first = await AsyncLock(clients[0], PATH).acquire()
        order: list[int] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(contenders):
                tasks.create_task(hold_once(clients[number % SESSIONS], order))
            await until_all_wait(clients, messages)
            assert len(await AsyncLock(clients[0], PATH).contenders()) == contenders + 1
            messages.clear()
            await first.release()
        hand_overs = Counter(messages)
        await asyncio.gather(*(client.close() for client in clients))

    assert len(order) == contenders
    assert order == sorted(order), "granted in the order of arrival"
    assert hand_overs["operations"] <= OPERATIONS_A_HAND_OVER_MAX * (contenders + 1), hand_overs
    assert hand_overs["reads of a majority"] == 0, "a hand-over waits for one write, and no other round"
    assert hand_overs["events"] <= EVENTS_A_GRANT_MAX * contenders, hand_overs


@pytest.mark.parametrize("contenders", [50, 200])
async def test_also_while_they_are_still_arriving(contenders: int, messages: Counter[str]) -> None:
    async with running_server() as server, AsyncClient(server.endpoints) as client:
        order: list[int] = []
        await client.create(f"{PATH}/keep", parents=True)  # So that the service never removes the root.
        messages.clear()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(contenders):
                tasks.create_task(hold_once(client, order))

    assert len(order) == contenders
    assert messages["operations"] <= OPERATIONS_A_GRANT_MAX * contenders, messages
    assert messages["events"] <= EVENTS_A_GRANT_MAX * contenders, messages
