"""How this project opens LevelDB: always paranoid, never creating what should be there.

Rule of this file: a database that LevelDB would open although something is missing from it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import plyvel

from coordsvc.storage.append_only_files import check_append_only_files
from coordsvc.storage.errors import damaged, storage_error
from coordsvc.storage.files import sync_path


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes of one database. The write buffer is also the most that is replayed when it is opened."""

    write_buffer_bytes: int = 16 << 20
    block_cache_bytes: int = 16 << 20
    file_bytes_max: int = 8 << 20
    bloom_bits_per_key: int = 10


def create_database(path: Path, tuning: Tuning) -> plyvel.DB:
    """Make a new, empty database. Its directory must not exist yet."""
    try:
        database = _open(path, tuning, create=True)
        sync_path(path.parent)
    except (OSError, plyvel.Error) as error:
        raise storage_error(error, path, "create") from error
    return database


def open_database(path: Path, tuning: Tuning) -> plyvel.DB:
    """Open an existing database.

    Raises:
        CorruptDataError: A file is damaged or missing.
    """
    try:
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        # LevelDB always leaves a log behind; without one it would open, and be short of the newest writes.
        if "CURRENT" not in names or not any(name.endswith(".log") for name in names):
            raise damaged(path, "the database or its newest file is missing")
        check_append_only_files(path)
        return _open(path, tuning, create=False)
    except (OSError, plyvel.Error) as error:
        raise storage_error(error, path, "open") from error


def _open(path: Path, tuning: Tuning, *, create: bool) -> plyvel.DB:
    return plyvel.DB(
        str(path),
        create_if_missing=create,
        error_if_exists=create,
        paranoid_checks=True,
        write_buffer_size=tuning.write_buffer_bytes,
        lru_cache_size=tuning.block_cache_bytes,
        max_file_size=tuning.file_bytes_max,
        bloom_filter_bits=tuning.bloom_bits_per_key,
        compression=None,  # decision 0020: it cost more than all else that LevelDB does
    )
