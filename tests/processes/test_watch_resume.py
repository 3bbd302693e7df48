"""A watcher that was cut off misses nothing. Issue 2, line 4; promise G6."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coordclient import AsyncClient, EventType, State
from tests.processes.cluster import ClusterProcesses
from tests.processes.ports import free_ports
from tests.processes.proxy import Proxy

pytestmark = pytest.mark.processes

CHANGES = 1_000


async def cluster_behind_proxies(
    directory: Path, stack: AsyncExitStack
) -> tuple[ClusterProcesses, dict[str, Proxy]]:
    """Start a cluster whose members tell clients the addresses of their proxies."""
    cluster = ClusterProcesses(directory)
    proxies = {}
    for member, port in zip(cluster, free_ports(3), strict=True):
        proxy = await stack.enter_async_context(Proxy(member.endpoint, port))
        member.options += ("--advertise-client", proxy.address)
        proxies[member.name] = proxy
    await stack.enter_async_context(cluster)
    return cluster, proxies


@pytest.mark.parametrize(
    ("cut", "session_timeout", "keeps_session"),
    [("reset", 10.0, True), ("black hole", 5.0, True), ("past its session", 1.0, False)],
)
async def test_a_watcher_that_was_cut_off_gets_all_changes_in_order_from_another_member(
    tmp_path: Path, cut: str, session_timeout: float, keeps_session: bool
) -> None:
    async with AsyncExitStack() as stack:
        cluster, proxies = await cluster_behind_proxies(tmp_path, stack)
        behind = ",".join(proxy.address for proxy in proxies.values())
        writer = await stack.enter_async_context(AsyncClient(cluster.endpoints))
        watcher = await stack.enter_async_context(AsyncClient(behind, session_timeout=session_timeout))
        states: list[State] = []
        watcher.add_listener(states.append)
        lost = asyncio.Event()
        watcher.add_listener(lambda state: lost.set() if state is State.LOST else None)
        await writer.create("/watched", b"")
        stream = await stack.enter_async_context(watcher.watch("/watched"))
        first_member, session_id = watcher.member, watcher.session_id

        for name, proxy in proxies.items():
            if name == first_member and cut == "black hole":
                proxy.black_hole()
            else:
                proxy.refuse()
        await asyncio.gather(*(writer.set("/watched", b"%d" % number) for number in range(CHANGES)))
        if not keeps_session:
            async with asyncio.timeout(10):
                await lost.wait()
        for name, proxy in proxies.items():
            if name != first_member:
                await proxy.resume()
        async with asyncio.timeout(15):
            events = [await anext(stream) for _ in range(CHANGES)]

        assert [event.value for event in events] == [b"%d" % number for number in range(CHANGES)]
        assert all(event.type is EventType.CHANGED for event in events)
        assert watcher.member != first_member, "it re-attached to another member"
        assert (watcher.session_id == session_id) is keeps_session
        await writer.set("/watched", b"and on")
        async with asyncio.timeout(5):
            assert (await anext(stream)).value == b"and on", "it goes on live, with nothing twice"


async def test_a_watcher_catches_up_on_more_than_a_connection_may_have_waiting(tmp_path: Path) -> None:
    """Missed: 40 MiB. A connection is cut off when 16 MiB wait for it, so the replay must keep pace."""
    value = bytes(40 << 10)
    async with AsyncExitStack() as stack:
        cluster, proxies = await cluster_behind_proxies(tmp_path, stack)
        behind = ",".join(proxy.address for proxy in proxies.values())
        writer = await stack.enter_async_context(AsyncClient(cluster.endpoints, request_timeout=30.0))
        watcher = await stack.enter_async_context(AsyncClient(behind, session_timeout=30.0))
        await writer.create("/watched", b"")
        stream = await stack.enter_async_context(watcher.watch("/watched"))
        for proxy in proxies.values():
            proxy.refuse()
        await asyncio.gather(
            *(writer.set("/watched", number.to_bytes(4, "big") + value) for number in range(CHANGES))
        )
        for proxy in proxies.values():
            await proxy.resume()
        async with asyncio.timeout(20):
            numbers = [int.from_bytes((await anext(stream)).value[:4], "big") for _ in range(CHANGES)]

        assert numbers == list(range(CHANGES))
        assert watcher.state is State.CONNECTED
