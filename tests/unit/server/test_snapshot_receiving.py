"""A received tree that is not what it claims to be is refused, and ends nobody."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordsvc.raft.types import Configuration, SnapshotMetadata
from coordsvc.server.snapshot_receiving import _verify
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
