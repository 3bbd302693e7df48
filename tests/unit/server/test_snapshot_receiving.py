"""A received tree that is not what it claims to be is refused, and ends nobody; the sender hears the end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordproto.v1 import peer_pb2
from coordsvc.raft.types import Configuration, SnapshotMetadata
from coordsvc.server.snapshot_receiving import SnapshotReceiver, _verify
from coordsvc.statemachine.types import Limits
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.errors import SnapshotRefused
from coordsvc.storage.tree_chunks import encode_chunks


@pytest.mark.parametrize("index", [0, 7])
def test_an_empty_tree_is_no_snapshot(tmp_path: Path, index: int) -> None:
    directory = DataDirectory.open(tmp_path / "data", "cluster", "a")
    builder = directory.new_tree()
    for chunk in encode_chunks([], 1000):
        builder.add_chunk(chunk.number, chunk.data, chunk.checksum)
    member: Any = SimpleNamespace(opened=SimpleNamespace(limits=Limits()))
    metadata = SnapshotMetadata(index, 0, Configuration(("a",)))
    with pytest.raises(SnapshotRefused, match="not where the sender said"):
        _verify(builder, metadata, member)
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
