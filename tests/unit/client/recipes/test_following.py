"""Following: after any operations, lost connections, lost sessions and lost history, the copy is exact."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coordclient import AsyncClient, Node
from coordclient.recipes.tree_cache import AsyncTreeCache
from coordclient.types import node_from_wire
from tests.unit.client.fake_server import FakeServer
from tests.unit.client.recipes.test_mirror import NAMES, contents, follow, write

ROOT = "/a"
FAULTS = ["drop", "expire", "trim", "lose answers", "breathe"]

actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["set", "delete", "remake", "fleeting", "twice"]), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(FAULTS), st.just("")),
    ),
    max_size=30,
)


def below(server: FakeServer) -> dict[str, Node]:
    nodes = server.tree.nodes.items()
    return {path: node_from_wire(node) for path, node in nodes if path == ROOT or path.startswith(ROOT + "/")}


async def act(server: FakeServer, client: AsyncClient, kind: str, path: str) -> None:
    if kind == "drop":
        server.drop_connections()
    elif kind == "expire":
        if client.session_id in server.sessions:
            server.expire(client.session_id)
    elif kind == "trim":
        server.history_begins_after = server.tree.zxid
    elif kind == "lose answers":
        server.drop_after_apply += 1
    elif kind == "breathe":
        await asyncio.sleep(0.001)
    else:
        before = len(server.tree.changes)
        write(server.tree, kind, path)
        server._tell_watchers(before)


# A function-scoped fixture would be shared by all examples; each has a server of its own.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions, actions)
@example([("set", "/a/b")], [("set", "/a"), ("delete", "/a")])
@example([], [("set", "/a/b"), ("delete", "/a"), ("set", "/a/b")])
@example(
    [("set", "/a/b")], [("drop", ""), ("set", "/a/d"), ("remake", "/a"), ("trim", ""), ("set", "/a/b/c")]
)
async def test_a_cache_is_exact_after_anything(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    server = FakeServer()
    await server.start()
    try:
        async with AsyncClient(server.address) as client:
            for kind, path in before:
                await act(server, client, kind, path)
            async with AsyncTreeCache(client, ROOT) as cache:
                shown = dict(cache.nodes())
                changes = cache.changes()
                for kind, path in after:
                    await act(server, client, kind, path)
                await cache.wait_for(server.tree.zxid, timeout=20)
                assert contents(dict(cache.nodes())) == contents(below(server))
                assert cache.zxid == server.tree.zxid
                await cache.close()
                async for change in changes:
                    follow(shown, change)
                assert contents(shown) == contents(below(server))
    finally:
        await server.stop()
