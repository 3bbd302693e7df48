"""Whose directory it is, who holds it, and what has to be in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coordsvc.storage.data_directory import DataDirectory, StoredIdentity, prepare_to_join, read_identity
from coordsvc.storage.errors import (
    CorruptDataError,
    DataDirectoryInUseError,
    ForeignDataError,
    NotWritableError,
    StorageError,
)
from coordsvc.storage.files import replace_record

OPEN_AND_SAY = """
import sys
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.errors import StorageError
try:
    DataDirectory.open(sys.argv[1], "cluster", "a").close()
except StorageError as error:
    print(type(error).__name__, error)
else:
    print("opened")
"""

# The superuser may write anywhere. It steps down once everything is imported.
AS_NOBODY = OPEN_AND_SAY.replace("try:", "import os; os.setgid(65534); os.setuid(65534)\ntry:", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "data"


def make(path: Path) -> None:
    DataDirectory.open(path, "cluster", "a").close()


def refuse(path: Path, kind: type[StorageError], member: str = "a", cluster: str = "cluster") -> str:
    with pytest.raises(kind) as caught:
        DataDirectory.open(path, cluster, member)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def open_elsewhere(path: Path, program: str = OPEN_AND_SAY) -> str:
    """Try to open the directory in another process; return what that says."""
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_new_directory_is_made_and_can_be_opened_again(path: Path) -> None:
    make(path)
    names = {entry.name for entry in path.iterdir()}

    make(path)

    assert names == {"LOCK", "identity", "log", "log-mark", "tree-1", "tree-current"}
    assert {entry.name for entry in path.iterdir()} == names


def test_a_second_process_is_refused_and_told_who_has_it(path: Path) -> None:
    held = DataDirectory.open(path, "cluster", "a")

    said = open_elsewhere(path)
    assert said.startswith("DataDirectoryInUseError")
    assert f"in use by process {os.getpid()}" in said
    held.close()
    assert open_elsewhere(path) == "opened"


def test_a_second_opening_in_one_process_is_refused_too(path: Path) -> None:
    held = DataDirectory.open(path, "cluster", "a")

    refuse(path, DataDirectoryInUseError)
    held.close()


def test_a_refused_opening_lets_go_of_the_lock(path: Path) -> None:
    make(path)
    refuse(path, ForeignDataError, member="b")

    make(path)


def test_another_members_or_clusters_directory_is_refused(path: Path) -> None:
    make(path)

    assert "belongs to member 'a' of cluster 'cluster'" in refuse(path, ForeignDataError, member="b")
    assert "this is member 'a' of cluster 'other'" in refuse(path, ForeignDataError, cluster="other")


def test_a_newer_format_is_refused(path: Path) -> None:
    make(path)
    replace_record(path / "identity", {"format": 3, "cluster": "cluster", "member": "a"})

    assert "written in format 3" in refuse(path, ForeignDataError)


def test_an_older_format_is_refused(path: Path) -> None:
    make(path)
    replace_record(path / "identity", {"format": 1, "cluster": "cluster", "member": "a"})

    assert "written in format 1, this program knows format 2" in refuse(path, ForeignDataError)


def test_every_directory_has_an_id_of_its_own_and_keeps_it(path: Path, tmp_path: Path) -> None:
    make(path)
    make(tmp_path / "other")
    identity = read_identity(path)
    assert identity is not None
    assert read_identity(tmp_path / "other") != identity
    assert identity.member_id != 0
    opened = DataDirectory.open(path, "cluster", "a", members="a=h:1", member_id=7, joined_index=9)
    opened.close()
    assert opened.identity == identity, "what is named is for a new directory"


def test_nobodys_directory_has_no_identity(path: Path) -> None:
    assert read_identity(path) is None
    assert not path.exists(), "looking makes nothing"


class TestJoining:
    def test_a_server_asks_under_one_id_until_it_is_a_member(self, path: Path) -> None:
        member_id = prepare_to_join(path)
        assert prepare_to_join(path) == member_id

        DataDirectory.open(
            path, "cluster", "d", members="a=h:1", member_id=member_id, joined_index=12, joined_term=3
        ).close()

        assert read_identity(path) == StoredIdentity("cluster", "d", member_id, "a=h:1", 12, 3)
        assert not (path / "joining").exists()

    def test_a_damaged_id_is_no_reason_to_draw_another(self, path: Path) -> None:
        prepare_to_join(path)
        (path / "joining").write_text("{}")
        with pytest.raises(CorruptDataError):
            prepare_to_join(path)

    def test_it_joins_with_no_files_but_its_own(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "thesis.txt").write_text("precious")
        with pytest.raises(ForeignDataError, match="not empty"):
            prepare_to_join(path)

    def test_two_at_once_are_told_apart(self, path: Path) -> None:
        held = DataDirectory.open(path, "cluster", "a")
        with pytest.raises(DataDirectoryInUseError):
            prepare_to_join(path)
        held.close()


def test_a_directory_with_other_peoples_files_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "thesis.txt").write_text("precious")

    assert "not empty" in refuse(path, ForeignDataError)
    assert (path / "thesis.txt").read_text() == "precious"


def test_the_root_of_a_fresh_file_system_is_good_enough(path: Path) -> None:
    (path / "lost+found").mkdir(parents=True)

    make(path)


def test_an_interrupted_beginning_is_begun_anew(path: Path) -> None:
    make(path)
    (path / "identity").unlink()
    (path / "initializing").touch()
    shutil.rmtree(path / "tree-1")

    make(path)

    assert not (path / "initializing").exists()
    assert (path / "tree-1").is_dir()


@pytest.mark.parametrize("name", ["identity", "tree-current", "log", "tree-1"])
def test_what_is_missing_is_refused_and_never_made_anew(path: Path, name: str) -> None:
    make(path)
    missing = path / name
    shutil.rmtree(missing) if missing.is_dir() else missing.unlink()

    refuse(path, StorageError)

    assert not missing.exists()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*", "*.log"])
@pytest.mark.parametrize("database", ["log", "tree-1"])
def test_a_database_with_a_missing_file_is_refused(path: Path, database: str, name: str) -> None:
    make(path)
    for file in (path / database).glob(name):
        file.unlink()
    directory = DataDirectory.open(path, "cluster", "a")

    with pytest.raises(CorruptDataError, match=database):
        directory.open_log() if database == "log" else directory.open_tree()
    directory.close()


def test_unfinished_trees_are_removed_and_the_live_one_stays(path: Path) -> None:
    make(path)
    for name in ("tree-2", "tree-17"):
        (path / name).mkdir()

    make(path)

    assert [entry.name for entry in path.glob("tree-*") if entry.is_dir()] == ["tree-1"]


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refuse(tmp_path / "file" / "data", NotWritableError)


@pytest.mark.parametrize("mode", [0o500, 0o300], ids=["not writable", "not readable"])
def test_a_directory_without_the_rights_is_refused(mode: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o711)
        path = Path(parent) / "data"
        path.mkdir()
        if os.geteuid() == 0 and mode == 0o300:
            os.chown(path, 65534, 65534)
        path.chmod(mode)

        said = open_elsewhere(path, AS_NOBODY if os.geteuid() == 0 else OPEN_AND_SAY)

    assert said.startswith("NotWritableError")
    assert str(path) in said


def test_a_new_directory_and_all_above_it_that_were_missing_are_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power could take it back, and with it the member's votes."""
    synced: set[int] = set()
    sync = os.fsync

    def note_and_sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr("os.fsync", note_and_sync)

    make(tmp_path / "one" / "two" / "data")

    for directory in (
        tmp_path,
        tmp_path / "one",
        tmp_path / "one" / "two",
        tmp_path / "one" / "two" / "data",
    ):
        assert directory.stat().st_ino in synced
