"""The unary service as any gRPC client sees it: the change feed, watches with a past, long paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from tests.processes.cluster import ClusterProcesses

pytestmark = pytest.mark.processes

if TYPE_CHECKING:
    Stub = coordination_pb2_grpc.CoordinationAsyncStub  # the stubs know it, the runtime does not


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Stub]:
    async with ClusterProcesses(tmp_path, members=1) as cluster:
        yield cluster.coordination(cluster["a"])


async def create(service: Stub, path: str) -> None:
    await service.Create(coordination_pb2.CreateRequest(create=data_pb2.Create(path=path)))


def pages(responses: list[coordination_pb2.HistoryResponse]) -> tuple[list[str], int]:
    """(all changed paths, the last zxid that was named)."""
    return [change.path for page in responses for change in page.changes], responses[-1].zxid


async def test_the_history_holds_every_change_before_it_says_so(service: Stub) -> None:
    for path in ("/a", "/b", "/c"):
        await create(service, path)
    everything = [page async for page in service.History(coordination_pb2.HistoryRequest())]
    assert pages(everything) == (["/a", "/b", "/c"], 3)
    rest = [page async for page in service.History(coordination_pb2.HistoryRequest(since=1))]
    assert pages(rest) == (["/b", "/c"], 3)

    following = service.History(coordination_pb2.HistoryRequest(since=2, follow=True))
    seen: list[str] = []
    async for page in following:
        assert page.zxid <= 2 + len(seen) + len(page.changes), "nothing is named before it was sent"
        seen += [change.path for change in page.changes]
        if seen == ["/c"] and not page.changes:
            await create(service, "/d")
        if len(seen) == 2:
            break
    assert seen == ["/c", "/d"]


async def test_a_transaction_too_large_for_one_message_is_named_when_all_of_it_was_sent(
    service: Stub,
) -> None:
    ops = [
        data_pb2.TransactionOp(create=data_pb2.Create(path=f"/t{number}", value=bytes(700_000)))
        for number in range(3)
    ]
    request = coordination_pb2.TxnRequest(transaction=data_pb2.Transaction(success=ops))
    await service.Txn(request)
    sent = named = 0
    async for page in service.History(coordination_pb2.HistoryRequest()):
        sent += len(page.changes)
        named = page.zxid
        assert named == 0 or sent == 3
    assert (sent, named) == (3, 1)


async def test_a_watch_with_a_past_goes_on_with_what_comes(service: Stub) -> None:
    await create(service, "/a")
    await create(service, "/b")
    events = service.Watch(coordination_pb2.WatchRequest(path="/", recursive=True, since=1))
    seen: list[str] = []
    async for event in events:
        seen.append(event.path)
        if len(seen) == 1:
            await create(service, "/c")
        if len(seen) == 2:
            break
    assert seen == ["/b", "/c"]


@pytest.mark.parametrize("path", ["/" + "x" * 4_000, "/" + "\U0001f512" * 1_000])
async def test_the_error_for_a_long_path_arrives_as_what_it_is(service: Stub, path: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await service.Get(coordination_pb2.GetRequest(get=data_pb2.Get(path=path)))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
