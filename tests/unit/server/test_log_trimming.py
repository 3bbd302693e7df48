"""The log is trimmed behind a synced tree, in pieces, while writes go on."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from coordproto.v1 import data_pb2
from coordsvc.api.gateway import ClientHandle
from coordsvc.config import ServerConfig
from coordsvc.server.member import Member
from coordsvc.server.opening import open_member
from coordsvc.storage import log_store
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.errors import DiskFailedError, StorageError
from coordsvc.storage.tree_store import TreeStore

WRITES_MAX = 2000


async def write(member: Member, number: int) -> None:
    handle = ClientHandle(member, member.feed(member.replica.open_call))
    batch = data_pb2.WriteBatch(writes=[data_pb2.Write(create=data_pb2.Create(path=f"/{number}"))])
    member.feed(member.replica.anonymous_write, handle.connection, batch.SerializeToString())
    await handle.receive()


async def write_many(member: Member) -> None:
    for number in range(WRITES_MAX):
        await write(member, number)


async def test_a_log_that_has_grown_is_trimmed_and_opens_again(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_store, "_TRIM_BATCH_ENTRIES", 7)
    synced: list[int] = []
    sync = TreeStore.sync
    config = ServerConfig(
        data_dir=tmp_path / "data",
        peer_listen=f"127.0.0.1:{unused_tcp_port}",
        log_trim_entries=100,
        log_keep_entries=20,
    )
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    log = member.opened.log

    def note_and_sync(tree: TreeStore) -> None:
        synced.append(log.first_index())
        sync(tree)

    monkeypatch.setattr(TreeStore, "sync", note_and_sync)
    writes = 0
    while log.first_index() == 1 and writes < WRITES_MAX:
        await write(member, writes)
        writes += 1
    kept = log.last_index() - log.first_index() + 1

    assert 20 <= kept < writes < WRITES_MAX
    assert synced[0] == 1, "the tree was synced before anything went"
    running.cancel()
    await asyncio.wait([running])
    await member.close()

    opened = open_member(config)
    assert opened.replica.state.machine.node_count == writes + 1
    opened.close()


async def test_a_sync_of_the_tree_that_fails_ends_the_member_and_nothing_is_trimmed(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServerConfig(
        data_dir=tmp_path / "data",
        peer_listen=f"127.0.0.1:{unused_tcp_port}",
        log_trim_entries=10,
        log_keep_entries=2,
    )
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    trust = member.opened.directory.trust

    def fail(_tree: TreeStore) -> None:
        raise trust.lose(DiskFailedError("the tree cannot be synced"))

    monkeypatch.setattr(TreeStore, "sync", fail)
    writing = asyncio.create_task(write_many(member))
    await asyncio.wait([running], timeout=30.0)
    # Whoever meets the lost trust first ends the member: it need not be the one whose sync failed.
    with pytest.RaisesGroup(pytest.RaisesExc(StorageError, match="the tree cannot be synced")):
        running.result()

    writing.cancel()
    assert member.opened.log.first_index() == 1
    await member.close()


async def test_a_member_may_be_closed_while_its_tree_is_being_synced(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServerConfig(
        data_dir=tmp_path / "data",
        peer_listen=f"127.0.0.1:{unused_tcp_port}",
        log_trim_entries=10,
        log_keep_entries=2,
    )
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    began, may_end = threading.Event(), threading.Event()
    sync = TreeStore.sync

    def sync_for_long(tree: TreeStore) -> None:
        began.set()
        may_end.wait()
        sync(tree)

    monkeypatch.setattr(TreeStore, "sync", sync_for_long)
    writing = asyncio.create_task(write_many(member))
    await asyncio.to_thread(began.wait)
    writing.cancel()
    running.cancel()
    await asyncio.wait([running, writing])
    closing = asyncio.create_task(member.close())
    await asyncio.to_thread(member.storage._thread.join)
    may_end.set()
    await closing

    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    monkeypatch.undo()
    opened = open_member(config)
    assert opened.log.first_index() == 1
    assert opened.log.last_index() > config.log_trim_entries
    opened.close()


async def test_a_trim_leaves_no_more_than_is_in_memory(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries may be large: a number of them says little about how long a restart takes."""
    open_log = DataDirectory.open_log
    monkeypatch.setattr(
        DataDirectory, "open_log", lambda directory: open_log(directory, cache_bytes_max=4000)
    )
    config = ServerConfig(
        data_dir=tmp_path / "data",
        peer_listen=f"127.0.0.1:{unused_tcp_port}",
        log_trim_bytes=20_000,
    )
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    log = member.opened.log
    writes = 0
    while log.first_index() == 1 and writes < WRITES_MAX:
        await write(member, writes)
        writes += 1

    assert log.last_index() - log.first_index() < writes / 2 < config.log_keep_entries
    running.cancel()
    await asyncio.wait([running])
    await member.close()
