"""The count of synced writes beside the log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordsvc.raft.types import Entry, HardState
from coordsvc.storage.errors import CorruptDataError, DiskTrust
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.sync_mark import SyncMark, decode_number, encode_number, mark_path


@pytest.fixture
def mark_file(tmp_path: Path) -> Path:
    SyncMark.create(tmp_path / "log-mark")
    return tmp_path / "log-mark"


def test_what_was_advanced_to_is_there_when_it_is_opened_again(mark_file: Path) -> None:
    mark = SyncMark.open(mark_file)
    assert mark.number == 0
    mark.advance(7)
    mark.close()
    mark.close()

    again = SyncMark.open(mark_file)
    assert again.number == 7
    again.close()


def test_every_flipped_bit_and_every_cut_is_refused(mark_file: Path) -> None:
    content = encode_number(5)
    damaged = [content[:length] for length in range(len(content))]
    damaged += [content + b"\0"]
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    for data in damaged:
        assert decode_number(data) is None
        mark_file.write_bytes(data)
        with pytest.raises(CorruptDataError, match="its checksum does not fit"):
            SyncMark.open(mark_file)


def test_a_missing_mark_is_refused(mark_file: Path) -> None:
    mark_file.unlink()
    with pytest.raises(CorruptDataError, match="it is missing"):
        SyncMark.open(mark_file)


def vote(path: Path, term: int) -> None:
    log = LogStore.open(path, DiskTrust())
    log.write(HardState(term, "b", 0), [], None, sync=True)
    log.close()


def test_an_older_copy_of_the_log_alone_is_refused(tmp_path: Path) -> None:
    """It has forgotten a vote, and no entry says so."""
    path = tmp_path / "log"
    LogStore.create(path)
    vote(path, 1)
    shutil.copytree(path, tmp_path / "older")
    vote(path, 2)
    shutil.rmtree(path)
    shutil.move(tmp_path / "older", path)
    with pytest.raises(CorruptDataError, match="1 synced writes, and there were 2"):
        LogStore.open(path, DiskTrust())


def test_a_crash_between_the_sync_and_the_mark_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    LogStore.create(path)
    older = mark_path(path).read_bytes()
    vote(path, 1)
    mark_path(path).write_bytes(older)
    LogStore.open(path, DiskTrust()).close()
    assert mark_path(path).read_bytes() != older


def test_only_synced_writes_count(tmp_path: Path) -> None:
    path = tmp_path / "log"
    LogStore.create(path)
    log = LogStore.open(path, DiskTrust())
    entry = [Entry(1, 0, b"x")]
    log.write(None, entry, None, sync=False)
    log.adopt(None, entry, None)
    log.trim(1)
    log.close()
    assert decode_number(mark_path(path).read_bytes()) == 0
