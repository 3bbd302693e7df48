"""LevelDB is opened paranoid, and only where it is known to be."""

from __future__ import annotations

from pathlib import Path

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
