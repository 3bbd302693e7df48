"""What work costs three real members: LevelDB, links and gRPC, all in this process, counted where they end.

The exact numbers of the cores are in `tests/counts`; here is what the shell around them adds, which is
nothing. Where two members may or may not share a write, depending on who is faster, there is a bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordclient import AsyncClient
from coordclient.connection import Connection
from coordsvc.codec.cluster_configuration import decode_cluster_configuration
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.tree_store import TreeStore
from coordsvc.testing.members import InProcessMember, quick_config
from coordsvc.testing.ports import free_ports
from tests.unit.client.eventually import eventually

NAMES = ("a", "b", "c")
WRITES = 40
BURST = 256
# The first frame may leave, and the first entry begin, before the rest of the burst has been seen.
FRAMES_OF_A_BURST_MAX = 3
ENTRIES_OF_A_BURST_MAX = 4


@pytest.fixture
async def members(tmp_path: Path) -> AsyncIterator[dict[str, InProcessMember]]:
    """Three members, led by a. No election is due for as long as a test lasts."""
    ports = dict(zip(NAMES, zip(*[iter(free_ports(6))] * 2, strict=True), strict=True))
    cluster = ",".join(f"{name}=127.0.0.1:{peer_port}" for name, (_, peer_port) in ports.items())
    found = {
        name: InProcessMember(
            quick_config(
                tmp_path / name, *ports[name], name=name, initial_cluster=cluster, election_ms=20_000
            )
        )
        for name in NAMES
    }
    starting = [asyncio.create_task(member.start()) for member in found.values()]
    await eventually(lambda: all(member.is_running for member in found.values()))
    first = found["a"].member
    await eventually(lambda: all(first.links.is_up(peer) for peer in "bc"))
    first.feed(first.replica.state.raft.campaign)
    await asyncio.gather(*starting)
    # The leader writes down once where the members are and which disks are theirs: not of our doing.
    await eventually(lambda: all(are_members_known(member) for member in found.values()))
    yield found
    for member in found.values():
        await member.stop()


def are_members_known(running: InProcessMember) -> bool:
    configuration = decode_cluster_configuration(running.member.replica.state.machine.configuration)
    return all(record.member_id and record.client_address for record in configuration.members)


@pytest.fixture
async def client(members: dict[str, InProcessMember]) -> AsyncIterator[AsyncClient]:
    """At the leader."""
    async with AsyncClient(members["a"].member.config.listen, session_timeout=60.0) as client:
        await client.create("/counted")
        await until_all_have_applied(members)
        yield client


@pytest.fixture
def counts(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What reaches the disks, and what leaves the client, from now on."""
    found: Counter[str] = Counter()
    write_log, write_tree, send = LogStore.write, TreeStore.write, Connection.send

    def counting_write_log(log: LogStore, hard_state: Any, entries: Any, *more: Any, sync: bool) -> None:
        name = log.path.parent.name
        found[f"fsyncs of {name}"] += sync
        found[f"entries of {name}"] += len(entries)
        write_log(log, hard_state, entries, *more, sync=sync)

    def counting_write_tree(tree: TreeStore, *writes: Any) -> None:
        found["batches of the trees"] += 1
        write_tree(tree, *writes)

    async def counting_send(connection: Connection, frame: bytes) -> None:
        found["frames"] += 1
        await send(connection, frame)

    monkeypatch.setattr(LogStore, "write", counting_write_log)
    monkeypatch.setattr(TreeStore, "write", counting_write_tree)
    monkeypatch.setattr(Connection, "send", counting_send)
    return found


async def until_all_have_applied(members: dict[str, InProcessMember]) -> None:
    machines = [running.member.replica.state.machine for running in members.values()]
    await eventually(lambda: len({machine.applied_index for machine in machines}) == 1)


async def test_a_write_on_its_own_is_one_fsync_and_one_entry_on_each_disk(
    members: dict[str, InProcessMember], client: AsyncClient, counts: Counter[str]
) -> None:
    for _ in range(WRITES):
        await client.set("/counted", b"v")
    await until_all_have_applied(members)

    assert counts["frames"] == WRITES
    assert counts["fsyncs of a"] == WRITES
    assert [counts[f"entries of {name}"] for name in NAMES] == [WRITES] * 3
    assert counts["batches of the trees"] == 3 * WRITES
    for name in "bc":  # one of the two may lag behind, and then writes two entries at once
        assert counts[f"fsyncs of {name}"] <= WRITES


async def test_a_burst_shares_its_fsyncs_entries_and_frames(
    members: dict[str, InProcessMember], client: AsyncClient, counts: Counter[str]
) -> None:
    await asyncio.gather(*(client.set("/counted", b"v") for _ in range(BURST)))
    await until_all_have_applied(members)

    assert counts["frames"] <= FRAMES_OF_A_BURST_MAX
    for name in NAMES:
        assert 1 <= counts[f"entries of {name}"] <= ENTRIES_OF_A_BURST_MAX
        assert counts[f"fsyncs of {name}"] <= counts[f"entries of {name}"]
    assert counts["batches of the trees"] == 3 * counts["entries of a"]


async def test_reads_write_nothing(
    members: dict[str, InProcessMember], client: AsyncClient, counts: Counter[str]
) -> None:
    await asyncio.gather(*(client.get("/counted") for _ in range(BURST)))

    assert {what for what in counts if counts[what] and what != "frames"} == set()
    assert counts["frames"] <= FRAMES_OF_A_BURST_MAX
