"""A member's data directory: who owns it, and which tree in it is the live one. Design section 7.

| name | what |
|---|---|
| `LOCK` | held by the running process; its number inside is for people |
| `identity` | format version; cluster and member; `member_id`, drawn when the directory was made |
| `joining` | only until a server that joins has become a member: the `member_id` under which it asks |
| `log/` | the Raft log |
| `log-mark` | how many of its writes were synced |
| `tree-<n>/` | a tree; `tree-current` names the live one, others are unfinished or outdated |
| `initializing` | there only while the directory is being made |

Rule of this file: what should be there and is not is a reason to stop, never to start afresh.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coordsvc.storage.errors import (
    DataDirectoryInUseError,
    DiskTrust,
    ForeignDataError,
    damaged,
    storage_error,
)
from coordsvc.storage.failpoints import reach
from coordsvc.storage.files import Record, read_record, replace_record, sync_path
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.snapshot_install import TREE_BYTES_MAX, SnapshotBuilder
from coordsvc.storage.tree_store import TreeStore

FORMAT_VERSION = 2  # 2: members have ids; the tree holds the addresses of the members

_IDENTITY = "identity"
_INITIALIZING = "initializing"
_JOINING = "joining"
_LOCK = "LOCK"
_LOG = "log"
_POINTER = "tree-current"
_HARMLESS = {
    "lost+found",  # in the root of every new ext4 file system
    _LOCK,
    _JOINING,
    _JOINING + ".tmp",  # a crash came before its renaming
}


@dataclass(frozen=True, slots=True)
class InstalledSnapshot:
    """The snapshot that the live tree was received as. Index 0: it was not received, it grew here."""

    index: int = 0
    term: int = 0


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """Who a data directory belongs to.

    Attributes:
        member_id: Drawn at random when the directory was made: another disk is another one.
        members: The cluster as it was then, NAME=HOST:PORT,... with peer addresses. A founder begins with
            it; for a member that joined these are whom it can talk to first.
        joined_index: The index of the configuration that named it when it joined; 0 for a founder.
        joined_term: The term of its entry. Another disk may have had this name before; see `raft.state`.
    """

    cluster_id: str
    member: str
    member_id: int
    members: str = ""
    joined_index: int = 0
    joined_term: int = 0


def read_identity(path: Path | str) -> StoredIdentity | None:
    """Return whose directory this is; None if it is nobody's yet. Takes no lock, changes nothing.

    Raises:
        ForeignDataError: It is of another version.
        CorruptDataError: The record is damaged.
    """
    file = Path(os.path.abspath(path)) / _IDENTITY
    record = read_record(file)
    if record is None:
        return None
    version = record.get("format")
    if version != FORMAT_VERSION:
        raise ForeignDataError(
            f"{file.parent} was written in format {version}, this program knows format {FORMAT_VERSION}; "
            "start the version that wrote it"
        )
    return StoredIdentity(
        _text(file, record, "cluster"),
        _text(file, record, "member"),
        _whole(file, record, "member_id"),
        _text(file, record, "members"),
        _whole(file, record, "joined_index"),
        _whole(file, record, "joined_term"),
    )


def prepare_to_join(path: Path | str) -> int:
    """Return the id under which a server with this empty directory joins: the same one each time.

    Raises: As `DataDirectory.open`.
    """
    path = Path(os.path.abspath(path))
    descriptor = _lock(path)
    try:
        refuse_other_peoples_files(path)
        record = read_record(path / _JOINING)
        if record is None:
            record = {"member_id": _draw_member_id()}
            replace_record(path / _JOINING, record)
        return _whole(path / _JOINING, record, "member_id")
    finally:
        os.close(descriptor)


def refuse_other_peoples_files(path: Path) -> None:
    """Refuse a directory without an identity that is not empty."""
    try:
        names = {entry.name for entry in path.iterdir()} - _HARMLESS
    except OSError as error:
        raise storage_error(error, path, "use the data directory") from error
    if names and _INITIALIZING not in names:
        raise ForeignDataError(
            f"{path} is not empty and has no file '{_IDENTITY}': it is no data directory of "
            "ours, or is damaged; choose an empty directory, or restore this one from a backup"
        )


class DataDirectory:
    """An opened and locked data directory. One per process."""

    identity: StoredIdentity

    def __init__(self, path: Path, lock_descriptor: int) -> None:
        self.path = path
        self.trust = DiskTrust()
        self._lock_descriptor = lock_descriptor
        self._tree_number = 0
        self.installed = InstalledSnapshot()

    @classmethod
    def open(
        cls,
        path: Path | str,
        cluster_id: str,
        member: str,
        *,
        members: str = "",
        member_id: int = 0,
        joined_index: int = 0,
        joined_term: int = 0,
    ) -> Self:
        """Lock the directory, make it if there is none, and check whose it is.

        What is named (see `StoredIdentity`) is for a directory that has to be made; 0 draws an id.

        Raises:
            DataDirectoryInUseError: Another process has it.
            ForeignDataError: It is not this member's, or of a newer version.
            NotWritableError, DiskFullError, CorruptDataError: As they say.
        """
        path = Path(os.path.abspath(path))
        descriptor = _lock(path)
        try:
            directory = cls(path, descriptor)
            if not directory._is_initialized():
                number = member_id or _draw_member_id()
                directory._initialize(
                    StoredIdentity(cluster_id, member, number, members, joined_index, joined_term)
                )
            reach("recovery_begun")
            directory._check_identity(cluster_id, member)
            directory._read_pointer()
            directory.remove_old_trees()
        except OSError as error:
            os.close(descriptor)
            raise storage_error(error, path, "use the data directory") from error
        except BaseException:
            os.close(descriptor)
            raise
        return directory

    def close(self) -> None:
        """Let go of the lock. The stores must be closed before."""
        os.close(self._lock_descriptor)

    def open_log(self, cache_bytes_max: int = 16 << 20) -> LogStore:
        """Open the log and verify all of it."""
        log = LogStore.open(self.path / _LOG, self.trust, cache_bytes_max)
        reach("recovery_log_opened")
        return log

    def open_tree(self) -> TreeStore:
        """Open the live tree."""
        tree = TreeStore.open(self._tree_path(self._tree_number), self.trust)
        reach("recovery_tree_opened")
        return tree

    def new_tree(self, bytes_max: int = TREE_BYTES_MAX) -> SnapshotBuilder:
        """Begin a tree beside the live one. One at a time; background thread."""
        self.trust.check()
        number = max(self._tree_numbers(), default=0) + 1
        builder = SnapshotBuilder(self._tree_path(number), number, self.trust, bytes_max)
        reach("snapshot_begun")
        return builder

    def switch_tree(self, builder: SnapshotBuilder, index: int, term: int) -> TreeStore:
        """Make the finished tree, the snapshot at (index, term), the live one; durable on return.

        Storage thread. The log is to be reset to the same snapshot next; a crash in between is
        recovered from at the next start. The old tree stays open and on disk until its owner has closed
        it and called `remove_old_trees`.
        """
        self.trust.check()
        store = builder.release()
        reach("snapshot_switching")
        self._write_pointer(builder.number, InstalledSnapshot(index, term))
        reach("snapshot_switched")
        return store

    def remove_old_trees(self) -> None:
        """Delete every tree but the live one: outdated, or left unfinished by a crash."""
        for number in self._tree_numbers():
            if number == self._tree_number:
                continue
            path = self._tree_path(number)
            reach("old_trees_removing")
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise self.trust.lose(storage_error(error, path, "remove")) from error
            reach("old_trees_removed")

    # --- inside ---

    def _is_initialized(self) -> bool:
        if (self.path / _IDENTITY).exists():
            return True
        refuse_other_peoples_files(self.path)
        return False

    def _initialize(self, identity: StoredIdentity) -> None:
        """Make an empty member. Starts over if a crash interrupted it: nothing has been promised yet."""
        try:
            (self.path / _INITIALIZING).touch()
            sync_path(self.path)
            reach("directory_begun")
            for leftover in (self.path / _LOG, *(self._tree_path(number) for number in self._tree_numbers())):
                if leftover.exists():
                    shutil.rmtree(leftover)
        except OSError as error:
            raise storage_error(error, self.path, "create a data directory in") from error
        LogStore.create(self.path / _LOG)
        reach("directory_log_made")
        tree = TreeStore.create(self._tree_path(1), self.trust)
        try:
            tree.sync()
        finally:
            tree.close()
        reach("directory_tree_made")
        self._write_pointer(1, InstalledSnapshot())
        reach("directory_pointer_made")
        replace_record(
            self.path / _IDENTITY,
            {
                "format": FORMAT_VERSION,
                "cluster": identity.cluster_id,
                "member": identity.member,
                "member_id": identity.member_id,
                "members": identity.members,
                "joined_index": identity.joined_index,
                "joined_term": identity.joined_term,
            },
        )
        reach("directory_made")

    def _check_identity(self, cluster_id: str, member: str) -> None:
        path = self.path / _IDENTITY
        identity = read_identity(self.path)
        if identity is None:
            raise damaged(path, "it is missing")
        owner = (identity.cluster_id, identity.member)
        if owner != (cluster_id, member):
            raise ForeignDataError(
                f"{self.path} belongs to member '{owner[1]}' of cluster '{owner[0]}', and this is member "
                f"'{member}' of cluster '{cluster_id}'; correct the names or choose another data directory"
            )
        self.identity = identity
        for outdated in (_INITIALIZING, _JOINING):
            (self.path / outdated).unlink(missing_ok=True)

    def _read_pointer(self) -> None:
        path = self.path / _POINTER
        pointer = read_record(path)
        if pointer is None:
            raise damaged(path, "it is missing")
        self._tree_number = _whole(path, pointer, "tree")
        self.installed = InstalledSnapshot(
            _whole(path, pointer, "snapshot_index"), _whole(path, pointer, "snapshot_term")
        )
        for needed in (self.path / _LOG, self._tree_path(self._tree_number)):
            if not needed.is_dir():
                raise damaged(needed, "the directory is missing")

    def _write_pointer(self, number: int, installed: InstalledSnapshot) -> None:
        replace_record(
            self.path / _POINTER,
            {"tree": number, "snapshot_index": installed.index, "snapshot_term": installed.term},
        )
        self._tree_number = number
        self.installed = installed

    def _tree_path(self, number: int) -> Path:
        return self.path / f"tree-{number}"

    def _tree_numbers(self) -> list[int]:
        numbers = (entry.name.split("tree-", 1) for entry in self.path.iterdir())
        return sorted(int(parts[1]) for parts in numbers if parts[0] == "" and parts[-1].isdecimal())


def _draw_member_id() -> int:
    return secrets.randbits(63) + 1


def _whole(file: Path, record: Record, name: str) -> int:
    value = record.get(name)
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise damaged(file, f"its checksum fits, but its {name} is no number of ours")
    return value


def _text(file: Path, record: Record, name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise damaged(file, f"its checksum fits, but its {name} is no text")
    return value


def _lock(path: Path) -> int:
    """Make the directory if needed, and hold its lock file. Returns the descriptor that holds it."""
    lock_path = path / _LOCK
    try:
        missing = [directory for directory in (path, *path.parents) if not directory.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in missing:
            sync_path(
                directory.parent
            )  # else a loss of power could take back the directory, and all promises
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, path, "use the data directory") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise DataDirectoryInUseError(
            f"{path} is in use by process {owner}; stop it, or choose another data directory"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise storage_error(error, lock_path, "write") from error
    return descriptor
