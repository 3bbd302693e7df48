"""A received tree that is not what it claims to be is refused, and ends nobody; the sender hears the end."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import encode_cluster_configuration, founding_configuration
from coordsvc.raft.types import Configuration, SnapshotMetadata
from coordsvc.server import pacing, snapshot_receiving, snapshot_sending
from coordsvc.server.snapshot_receiving import SnapshotReceiver, _load
from coordsvc.statemachine.commands import Create, Write
from coordsvc.statemachine.invariants import NODES_PER_STEP
from coordsvc.statemachine.layout import node_key
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.storage_thread import StorageThread
from coordsvc.storage.tree_chunks import encode_chunks
from tests.stores import MemoryStore


@pytest.mark.parametrize("index", [0, 7])
def test_an_empty_tree_is_no_snapshot(tmp_path: Path, index: int) -> None:
    directory = DataDirectory.open(tmp_path / "data", "cluster", "a")
    builder = directory.new_tree()
    for chunk in encode_chunks([], 1000):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    metadata = SnapshotMetadata(index, 0, Configuration(("a",)))
    with pytest.raises(SnapshotRefused, match="not where the sender said"):
        _load(builder, metadata, Limits())
    builder.abort()
    directory.close()


async def test_a_tree_that_does_not_have_its_digest_is_refused(tmp_path: Path) -> None:
    configuration = founding_configuration({"a": "h:1"})
    store = MemoryStore()
    machine = StateMachine(store, Limits())
    machine.begin(7, 1, 1)
    machine.set_configuration(encode_cluster_configuration(configuration))
    machine.write(0, 0, Write(Create("/a", b"value")))
    machine.commit()
    store.write([(node_key("/a"), store.records[node_key("/a")][:-1] + b"?")], [])
    directory = DataDirectory.open(tmp_path / "data", "cluster", "a")
    builder = directory.new_tree()
    for chunk in encode_chunks(sorted(store.records.items()), 1000):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    background = StorageThread()
    member: Any = SimpleNamespace(opened=SimpleNamespace(limits=Limits()), background=background)

    with pytest.raises(SnapshotRefused, match="digest"):
        await SnapshotReceiver(member)._verify(
            builder, SnapshotMetadata(7, 1, configuration.raft), lambda: None
        )

    assert await background.submit(lambda: "serves on") == "serves on"
    await background.close()
    builder.abort()
    directory.close()


async def test_while_a_large_tree_is_verified_the_sender_hears_that_it_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up a stream that it hears nothing of for half a minute, and begins it anew."""
    monkeypatch.setattr(snapshot_receiving, "_TELL_EVERY_S", 0.0)
    monkeypatch.setattr(pacing, "STEP_S", 0.0)
    configuration = founding_configuration({"a": "h:1"})
    store = MemoryStore()
    machine = StateMachine(store, Limits())
    machine.begin(7, 1, 1)
    machine.set_configuration(encode_cluster_configuration(configuration))
    for number in range(3 * NODES_PER_STEP):
        machine.write(0, 0, Write(Create(f"/{number}", b"value")))
    machine.commit()
    directory = DataDirectory.open(tmp_path / "data", "cluster", "a")
    builder = directory.new_tree()
    for chunk in encode_chunks(sorted(store.records.items()), 10_000):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    background = StorageThread()
    member: Any = SimpleNamespace(opened=SimpleNamespace(limits=Limits()), background=background)
    stages = ["loading"]
    told: set[str] = set()
    may_load = threading.Event()

    def load_slowly(*of_what: Any) -> StateMachine:
        may_load.wait()
        machine = _load(*of_what)
        stages.append("verifying")
        return machine

    def tell() -> None:
        told.add(stages[-1])
        may_load.set()

    monkeypatch.setattr(snapshot_receiving, "_load", load_slowly)
    await SnapshotReceiver(member)._verify(builder, SnapshotMetadata(7, 1, configuration.raft), tell)

    assert told == {"loading", "verifying"}
    await background.close()
    builder.abort()
    directory.close()


async def test_the_last_word_is_said_again_when_the_link_comes_back() -> None:
    """It may have been lost with the link; without it the sender would wait for its patience to end."""
    sent: list[tuple[str, peer_pb2.SnapshotStatus]] = []

    def send(peer: str, frames: list[bytes]) -> bool:
        sent.extend((peer, peer_pb2.PeerFrame.FromString(frame).snapshot_status) for frame in frames)
        return False

    member: Any = SimpleNamespace(links=SimpleNamespace(send=send))
    receiver = SnapshotReceiver(member)
    receiver.link_up("a")
    assert sent == []

    receiver._answer("a", 41, done=True)
    receiver.link_up("b")
    receiver.link_up("a")

    assert sent == [("a", peer_pb2.SnapshotStatus(index=41, done=True))] * 2


async def test_a_new_leader_is_not_refused_for_what_the_old_one_has_left() -> None:
    """Chunks are stored with rests between them: what an old stream had under way may still wait."""
    sent: list[bytes] = []
    member: Any = SimpleNamespace(links=SimpleNamespace(send=lambda _peer, frames: sent.extend(frames)))
    receiver = SnapshotReceiver(member)
    for peer in ("a", "b"):
        for number in range(snapshot_sending._WINDOW_CHUNKS):
            receiver.take(peer, peer_pb2.SnapshotChunk(index=7, number=number))

    assert sent == []
