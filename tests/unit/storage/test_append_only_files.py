"""Torn or rotten: the end of a file tells which."""

from __future__ import annotations

import struct
from pathlib import Path

import plyvel
import pytest

from coordsvc.storage.append_only_files import check_append_only_files
from coordsvc.storage.errors import CorruptDataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log file that LevelDB wrote: five records of some 100 bytes."""
    database = plyvel.DB(str(tmp_path / "database"), create_if_missing=True)
    for number in range(5):
        database.put(b"key %d" % number, bytes([number]) * 80)
    database.close()
    (path,) = (tmp_path / "database").glob("*.log")
    return path


def headers(content: bytes | bytearray) -> list[int]:
    found: list[int] = []
    offset = 0
    while offset < len(content):
        found.append(offset)
        offset += 7 + struct.unpack_from("<H", content, offset + 4)[0]
    return found


def test_a_whole_file_is_good(file: Path) -> None:
    check_append_only_files(file.parent)


def test_a_file_that_a_crash_cut_short_is_good_at_every_length(file: Path) -> None:
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        check_append_only_files(file.parent)


@pytest.mark.parametrize("record", [0, 2, 4])
@pytest.mark.parametrize("length", [600, 3000, 65535])
def test_a_length_that_leads_beyond_the_end_of_a_whole_record_is_refused(
    file: Path, record: int, length: int
) -> None:
    content = bytearray(file.read_bytes())
    assert len(headers(content)) == 5
    assert length > len(content)
    struct.pack_into("<H", content, headers(content)[record] + 4, length)
    file.write_bytes(content)

    with pytest.raises(CorruptDataError, match=str(file)):
        check_append_only_files(file.parent)


def test_only_the_last_block_is_looked_at(file: Path) -> None:
    """LevelDB refuses a bad length in an earlier one itself."""
    content = file.read_bytes()
    file.write_bytes(b"\xff" * 32768 + content)

    check_append_only_files(file.parent)
