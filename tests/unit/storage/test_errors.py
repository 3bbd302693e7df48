"""What the disk says becomes one typed line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import plyvel
import pytest

from coordsvc.storage.errors import (
    CorruptDataError,
    DiskFailedError,
    DiskFullError,
    DiskNotTrustedError,
    DiskTrust,
    NotWritableError,
    StorageError,
    storage_error,
)

PATH = Path("/data/log")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DiskFullError),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), DiskFullError),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), NotWritableError),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), NotWritableError),
        (OSError(errno.EEXIST, os.strerror(errno.EEXIST)), NotWritableError),
        (OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), NotWritableError),
        (OSError(errno.EIO, os.strerror(errno.EIO)), DiskFailedError),
        (plyvel.IOError(b"IO error: /data/log/3.log: " + os.strerror(errno.ENOSPC).encode()), DiskFullError),
        (plyvel.IOError("IO error: /data/log/3.log: Input/output error"), DiskFailedError),
        (plyvel.IOError("IO error: /data/log/3.ldb: " + os.strerror(errno.ENOENT)), CorruptDataError),
        (plyvel.IOError("IO error: /data/log/3.ldb: " + os.strerror(errno.EINVAL)), CorruptDataError),
        (OSError(errno.EINVAL, os.strerror(errno.EINVAL)), DiskFailedError),
        (plyvel.CorruptionError("Corruption: checksum\nmismatch"), CorruptDataError),
    ],
)
def test_each_failure_has_its_type_and_names_the_file_in_one_line(error: OSError, kind: type) -> None:
    translated = storage_error(error, PATH, "write to")

    assert type(translated) is kind
    assert str(PATH) in str(translated)
    assert "\n" not in str(translated)
    assert "b'" not in str(translated)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTDIR])
def test_a_file_in_the_way_of_a_directory_is_called_so(number: int) -> None:
    translated = storage_error(OSError(number, os.strerror(number)), PATH, "use the data directory")

    assert "there is a file where a directory should be" in str(translated)


def test_after_the_first_failure_every_check_refuses_and_repeats_the_reason() -> None:
    trust = DiskTrust()
    trust.check()
    first = trust.lose(StorageError("the disk is gone"))
    trust.lose(StorageError("a consequence"))

    assert trust.failure is first
    with pytest.raises(DiskNotTrustedError, match="the disk is gone"):
        trust.check()
