"""What can be wrong with a member's disk, by what the operator has to do about it.

Rule of this file: each message is one line that says what happened, to which file or directory, and
what to do. A StorageError ends the member; a SnapshotRefused ends one transfer only.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import plyvel

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR)
# Said by LevelDB: a file of its own is missing, or points to what is behind its own end.
_NOT_AS_WRITTEN = (errno.ENOENT, errno.EINVAL)


class StorageError(Exception):
    """The disk cannot be trusted or used. Fatal: answer nothing more, stop the member."""


class DiskFullError(StorageError):
    """A write found no space."""


class DiskFailedError(StorageError):
    """The operating system reported a failed read, write or sync."""


class CorruptDataError(StorageError):
    """What is stored is not what was written: damaged, missing or contradictory."""


class ForeignDataError(StorageError):
    """The directory belongs to another member, another cluster, another program or a newer version."""


class DataDirectoryInUseError(StorageError):
    """Another process holds the directory."""


class NotWritableError(StorageError):
    """The directory may not be written by this user."""


class DiskNotTrustedError(StorageError):
    """Refused because an earlier call failed: after a failed write nothing later may be acknowledged."""


class SnapshotRefused(Exception):  # noqa: N818 - a refusal of what a peer sent, not a failure of ours
    """A received snapshot is incomplete, damaged or too large; our own data is untouched."""


class SnapshotClosed(SnapshotRefused):
    """A snapshot that was being read has been closed: its tree was replaced, or nobody wants it any more."""


class DiskTrust:
    """Shared by everything that is opened from one directory. Once lost it never comes back."""

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: StorageError | None = None

    def check(self) -> None:
        """Raise if anything in this directory has failed before."""
        if self.failure is not None:
            raise DiskNotTrustedError(f"refused after an earlier storage failure: {self.failure}")

    def lose(self, error: StorageError) -> StorageError:
        """Remember the first failure. Returns `error`, to be raised."""
        if self.failure is None:
            self.failure = error
        return error


def damaged(path: Path, detail: str) -> CorruptDataError:
    """Say that `path` does not hold what was written to it."""
    return CorruptDataError(
        f"{path} is damaged: {one_line(detail)}; do not edit or repair it: check the disk, then restore "
        "this data directory from a backup or replace this member"
    )


def storage_error(error: OSError | plyvel.Error, path: Path, action: str) -> StorageError:
    """Translate what the operating system or LevelDB said while we were trying to `action` `path`."""
    said = error.args[0] if error.args and isinstance(error.args[0], bytes) else None  # LevelDB's own words
    detail = one_line(str(error) if said is None else said.decode(errors="replace"))
    number = _error_number(error, detail)
    if number in _FULL:
        return DiskFullError(
            f"cannot {action} {path}: the disk is full ({detail}); free space on this file system, then "
            "start this member again: everything it acknowledged is there"
        )
    if number in _FORBIDDEN:
        return NotWritableError(
            f"cannot {action} {path}: not writable by user {os.geteuid()} ({detail}); correct its owner and "
            "mode, or choose another data directory"
        )
    if number in _IN_THE_WAY:
        return NotWritableError(
            f"cannot {action} {path}: there is a file where a directory should be ({detail}); choose another "
            "data directory, or move the file away"
        )
    is_from_leveldb = isinstance(error, plyvel.Error)
    if is_from_leveldb and (number in _NOT_AS_WRITTEN or not isinstance(error, plyvel.IOError)):
        return damaged(path, f"cannot {action} it: {detail}")
    return DiskFailedError(
        f"cannot {action} {path}: {detail}; check the disk and the system log, then start this member again"
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


def _error_number(error: OSError | plyvel.Error, detail: str) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # LevelDB hands over the text of strerror(), not its number.
    for number in (*_FULL, *_FORBIDDEN, *_IN_THE_WAY, *_NOT_AS_WRITTEN):
        if os.strerror(number) in detail:
            return number
    return None
