"""A tree is streamed, and the log keeps what its receiver needs next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.status import FollowerStatus
from coordsvc.raft.types import Configuration
from coordsvc.server import snapshot_sending
from coordsvc.server.snapshot_sending import SnapshotSenders
from coordsvc.storage.errors import DiskTrust
from coordsvc.storage.storage_thread import StorageThread
from coordsvc.storage.tree_store import TreeStore

APPLIED = 10
WANTED = 60


class Leader:
    """As much of a member as sending needs; the peer "b" takes every chunk and installs the tree at once."""

    def __init__(self, tree: TreeStore) -> None:
        self.background = StorageThread("background")
        self.opened = SimpleNamespace(tree=tree)
        self.links = SimpleNamespace(send=self._send)
        self.followers: dict[str, FollowerStatus] = {}
        self.installed = asyncio.Event()
        raft = SimpleNamespace(
            term=1,
            report_snapshot=lambda _peer, ok: self.installed.set() if ok else None,
            status=lambda: SimpleNamespace(followers=self.followers),
        )
        self.replica = SimpleNamespace(
            state=SimpleNamespace(raft=raft, machine=SimpleNamespace(applied_index=APPLIED, applied_term=1)),
            roster=SimpleNamespace(applied=SimpleNamespace(raft=Configuration(("a", "b")))),
        )
        me: Any = self
        self.senders = SnapshotSenders(me)

    def _send(self, peer: str, frames: list[bytes]) -> bool:
        chunk = peer_pb2.PeerFrame.FromString(frames[0]).snapshot_chunk
        answer = peer_pb2.SnapshotStatus(index=chunk.index, received=chunk.number + 1, done=chunk.last)
        self.senders.take(peer, answer)
        return True

    def changed(self) -> None:
        pass

    def follower_has(self, index: int) -> None:
        self.followers["b"] = FollowerStatus(index, index + 1, ProgressState.REPLICATE, True, False)


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[Leader]:
    tree = TreeStore.create(tmp_path / "tree", DiskTrust())
    tree.write([(b"k", b"v")], [])
    leader = Leader(tree)
    running = asyncio.create_task(leader.senders.run())
    leader.follower_has(0)
    leader.senders.start("b")
    assert leader.senders.trimmable_index(WANTED) == APPLIED, "what is being sent is kept"
    await leader.installed.wait()
    yield leader
    running.cancel()
    await asyncio.wait([running])
    await leader.background.close()
    tree.close()


async def test_the_log_waits_for_a_peer_that_has_just_installed_a_snapshot(leader: Leader) -> None:
    """Else, under load, it would need another one, and then another one."""
    assert leader.senders.trimmable_index(WANTED) == APPLIED
    leader.follower_has(40)
    assert leader.senders.trimmable_index(WANTED) == 40


async def test_a_peer_that_needs_nothing_of_what_would_go_has_caught_up(leader: Leader) -> None:
    leader.follower_has(WANTED)
    assert leader.senders.trimmable_index(WANTED) == WANTED
    leader.follower_has(40)
    assert leader.senders.trimmable_index(WANTED) == WANTED, "that is how it stays"


async def test_the_log_waits_for_no_peer_that_is_gone(leader: Leader) -> None:
    leader.senders.link_down("b")
    assert leader.senders.trimmable_index(WANTED) == WANTED


async def test_who_leads_no_longer_keeps_nothing_for_others(leader: Leader) -> None:
    leader.followers.clear()
    assert leader.senders.trimmable_index(WANTED) == WANTED


async def test_the_log_does_not_wait_for_ever(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic() + snapshot_sending._CATCH_UP_WITHIN_S + 1
    monkeypatch.setattr(snapshot_sending, "time", SimpleNamespace(monotonic=lambda: now_s))
    assert leader.senders.trimmable_index(WANTED) == WANTED
