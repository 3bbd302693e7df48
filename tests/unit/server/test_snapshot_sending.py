"""A tree is streamed, and the log keeps what its receiver needs next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

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
    """As much of a member as sending needs; the peer "b" takes every chunk and installs the tree at once.

    Unless it is slow: then it takes a chunk whenever the sender waits for it.
    """

    def __init__(self, tree: TreeStore) -> None:
        self.background = StorageThread("background")
        self.opened = SimpleNamespace(tree=tree)
        self.links = SimpleNamespace(send=self._send)
        self.followers: dict[str, FollowerStatus] = {}
        self.installed = asyncio.Event()
        self.is_peer_slow = False
        self.under_way: deque[peer_pb2.SnapshotChunk] = deque()
        self.under_way_max = self.under_way_bytes_max = 0
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
        self.under_way.append(peer_pb2.PeerFrame.FromString(frames[0]).snapshot_chunk)
        self.under_way_max = max(self.under_way_max, len(self.under_way))
        size = sum(len(chunk.data) for chunk in self.under_way)
        self.under_way_bytes_max = max(self.under_way_bytes_max, size)
        if not self.is_peer_slow:
            self.answer(peer)
        return True

    def answer(self, peer: str) -> None:
        chunk = self.under_way.popleft()
        answer = peer_pb2.SnapshotStatus(index=chunk.index, received=chunk.number + 1, done=chunk.last)
        self.senders.take(peer, answer)

    def changed(self) -> None:
        pass

    def begin_slowly(self) -> None:
        """Begin a stream to a peer that is slow."""
        leader = self

        class Waiting(asyncio.Event):
            async def wait(self) -> Literal[True]:
                leader.answer("b")
                return await super().wait()

        self.is_peer_slow = True
        self.installed.clear()
        self.senders.start("b")
        self.senders._streams["b"].progress = Waiting()

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


@pytest.mark.parametrize("value_bytes", [100, 1000, 100_000, 1 << 20])
async def test_little_is_under_way_whatever_the_values_are(leader: Leader, value_bytes: int) -> None:
    """Heartbeats and entries for that peer wait behind it, on the same connection."""
    for number in range(max(12, 8_000_000 // value_bytes)):
        leader.opened.tree.write([(b"%06d" % number, bytes(value_bytes))], [])
    leader.begin_slowly()
    await leader.installed.wait()

    assert leader.under_way_bytes_max <= snapshot_sending._WINDOW_BYTES
    assert leader.under_way_bytes_max > snapshot_sending._WINDOW_BYTES / 2, "and not one by one either"
    assert leader.under_way_max <= snapshot_sending._WINDOW_CHUNKS


async def test_a_record_that_is_larger_than_the_window_travels_alone(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sending, "_WINDOW_BYTES", 1000)
    for number in range(3):
        leader.opened.tree.write([(b"%d" % number, bytes(100_000))], [])
    leader.begin_slowly()
    await leader.installed.wait()

    assert 100_000 < leader.under_way_bytes_max < 200_000
