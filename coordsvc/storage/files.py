"""Small files that are replaced whole, and directories that are made durable.

Rule of this file: what was there stays until the new is on disk (write aside, sync, rename, sync the
directory); what is read is checked.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from coordsvc.storage.errors import damaged, storage_error
from coordsvc.storage.failpoints import reach

Record = dict[str, int | str]


def replace_record(path: Path, record: Mapping[str, int | str]) -> None:
    """Put `record` at `path` by one atomic rename; durable on return."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as file:
            file.write(_encode(record))
            file.flush()
            os.fsync(file.fileno())
        reach("record_written")
        aside.rename(path)
        reach("record_replaced")
        sync_path(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from error


def read_record(path: Path) -> Record | None:
    """Read what `replace_record` wrote; None if there is no such file.

    Raises:
        CorruptDataError: The file is not byte for byte what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path, "read") from error
    try:
        record = json.loads(content)["record"]
        if _encode(record) == content:
            return dict(record)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"not a record of ours ({error})") from error
    raise damaged(path, "its checksum does not fit its content")


def sync_path(path: Path) -> None:
    """Make one file or directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory_and_files(directory: Path) -> None:
    """Make a LevelDB directory durable, file by file.

    All files, because LevelDB does not sync a log that it rotates away from. A file that vanishes
    meanwhile was replaced by one that LevelDB has synced itself.
    """
    try:
        for name in os.listdir(directory):
            try:
                sync_path(directory / name)
            except FileNotFoundError:
                continue
        sync_path(directory)
    except OSError as error:
        raise storage_error(error, directory, "sync") from error


def _encode(record: Mapping[str, int | str]) -> bytes:
    body = json.dumps(record, sort_keys=True)
    checksum = f"{zlib.crc32(body.encode()):08x}"
    return (json.dumps({"record": record, "crc32": checksum}, sort_keys=True) + "\n").encode()
