"""LevelDB is opened paranoid, and only where it is known to be."""

from __future__ import annotations

from pathlib import Path

import plyvel
import pytest

from coordsvc.storage.errors import CorruptDataError, StorageError
from coordsvc.storage.leveldb import Tuning, create_database, open_database


def test_a_created_database_opens_again(tmp_path: Path) -> None:
    database = create_database(tmp_path / "tree", Tuning())
    database.put(b"a", b"1")
    database.close()

    database = open_database(tmp_path / "tree", Tuning())
    assert database.get(b"a") == b"1"
    database.close()


def test_opening_never_creates(tmp_path: Path) -> None:
    with pytest.raises(CorruptDataError, match="missing"):
        open_database(tmp_path / "tree", Tuning())

    assert not (tmp_path / "tree").exists()


def test_creating_never_takes_over(tmp_path: Path) -> None:
    create_database(tmp_path / "tree", Tuning()).close()

    with pytest.raises(StorageError, match="exists"):
        create_database(tmp_path / "tree", Tuning())


def test_what_is_written_is_not_compressed(tmp_path: Path) -> None:
    database = create_database(tmp_path / "tree", Tuning())
    value = b"the same again and again " * 4000
    database.put(b"a", value)
    database.compact_range()
    database.close()

    tables = list((tmp_path / "tree").glob("*.ldb"))
    assert sum(table.stat().st_size for table in tables) >= len(value)


def test_what_an_earlier_build_compressed_is_read(tmp_path: Path) -> None:
    value = b"the same again and again " * 4000
    compressed = plyvel.DB(str(tmp_path / "tree"), create_if_missing=True, compression="snappy")
    compressed.put(b"a", value)
    compressed.compact_range()
    compressed.close()
    tables = list((tmp_path / "tree").glob("*.ldb"))
    assert sum(table.stat().st_size for table in tables) < len(value)

    database = open_database(tmp_path / "tree", Tuning())
    assert database.get(b"a") == value
    database.close()
