"""Small checked files: whole or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordsvc.storage.errors import CorruptDataError, DiskFailedError
from coordsvc.storage.files import read_record, replace_record, sync_directory_and_files


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    replace_record(tmp_path / "record", {"number": 7, "text": "grün"})
    replace_record(tmp_path / "record", {"number": 8, "text": "grün"})

    assert read_record(tmp_path / "record") == {"number": 8, "text": "grün"}
    assert os.listdir(tmp_path) == ["record"]


def test_a_missing_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "record") is None


def test_every_flipped_bit_and_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record"
    replace_record(path, {"format": 1, "member": "a"})
    content = path.read_bytes()
    variants = [content[:length] for length in range(len(content))]
    for offset in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[offset] ^= 1 << bit
            variants.append(bytes(flipped))

    for variant in variants:
        path.write_bytes(variant)
        with pytest.raises(CorruptDataError, match=str(path)):
            read_record(path)


def test_a_failed_sync_of_one_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "000003.log").write_bytes(b"x")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)

    with pytest.raises(DiskFailedError, match="cannot sync"):
        sync_directory_and_files(tmp_path)


def test_every_file_and_the_directory_itself_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("000003.log", "000005.log", "000004.ldb", "MANIFEST-000002"):
        (tmp_path / name).write_bytes(b"x")
    synced: set[int] = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    sync_directory_and_files(tmp_path)

    assert synced == {path.stat().st_ino for path in (tmp_path, *tmp_path.iterdir())}


def test_a_record_is_on_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power could leave an empty file under the right name."""
    steps: list[str] = []
    rename = Path.rename

    def record_rename(source: Path, target: Path) -> Path:
        steps.append(f"rename {source.name} to {target.name}")
        return rename(source, target)

    monkeypatch.setattr(
        "os.fsync",
        lambda descriptor: steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}"),
    )
    monkeypatch.setattr("pathlib.Path.rename", record_rename)

    replace_record(tmp_path / "record", {"number": 1})

    assert steps == ["sync record.tmp", "rename record.tmp to record", f"sync {tmp_path.name}"]
