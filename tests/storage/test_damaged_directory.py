"""Any file of a whole data directory damaged, cut, gone or exchanged: refused in one line, or no difference.

The log of this member is synced, entry by entry, so there is no third outcome: no shorter log, no forgotten
vote, no gap. The tree may lose what was not synced; the log replays it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.storage.errors import StorageError
from tests.storage.damage import offsets, with_bit_flipped, with_file_cut
from tests.storage.whole_member import OpenMember, Started, make_member, start_member

# LevelDB's notes for people, and our lock: nobody reads what is in them.
OF_NO_ACCOUNT = {"LOG", "LOG.old", "LOCK"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    make_member(path)
    return path


@pytest.fixture(scope="module")
def expected(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    copy = tmp_path_factory.mktemp("expected") / "data"
    shutil.copytree(original, copy)
    return start_member(copy)


def files_of(directory: Path) -> list[Path]:
    """The files that matter, relative to the directory."""
    found = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    return [path for path in found if path.name not in OF_NO_ACCOUNT]


def is_one_line(error: Exception) -> bool:
    return "\n" not in str(error) and len(str(error)) < 800


def outcome(path: Path, expected: Started) -> str:
    """Start on the directory: `harmless` if nothing is missing, else `refused`. Everything else fails."""
    try:
        started = start_member(path)
    except (StorageError, CorruptStateError) as error:
        return "refused" if is_one_line(error) else "refused in many words"
    assert started == expected, "accepted, and not what was promised"
    return "harmless"


def test_the_directory_has_every_kind_of_file(original: Path, expected: Started) -> None:
    kinds = {path.parent.name + "/" + path.name.rstrip("0123456789") for path in files_of(original)}
    suffixes = {(path.parent.name, path.suffix) for path in files_of(original)}
    assert {"/identity", "/tree-current", "/log-mark", "log/CURRENT", "tree-1/CURRENT"} <= kinds
    assert {("log", ".ldb"), ("log", ".log"), ("tree-1", ".ldb"), ("tree-1", ".log")} <= suffixes
    assert expected.entries[0].index == 151
    assert len(expected.paths) == 451


def test_a_flipped_bit_in_any_file(original: Path, expected: Started, tmp_path: Path) -> None:
    dice = random.Random(11)
    seen = {"refused": 0, "harmless": 0}
    for file in files_of(original):
        for offset in offsets(original / file, 8, seed=12):
            copy = with_bit_flipped(original, tmp_path / "copy", str(file), offset, dice.randrange(8))
            seen[outcome(copy, expected)] += 1
    assert seen["refused"] > 60, seen
    assert seen["harmless"] < seen["refused"] / 4, (
        f"only a table's filter and padding are of no account: {seen}"
    )


def test_any_file_cut_anywhere(original: Path, expected: Started, tmp_path: Path) -> None:
    seen = {"refused": 0, "harmless": 0}
    for file in files_of(original):
        for length in offsets(original / file, 5, seed=13):
            seen[outcome(with_file_cut(original, tmp_path / "copy", str(file), length), expected)] += 1
    assert seen["refused"] > 30, seen


def test_any_file_gone(original: Path, expected: Started, tmp_path: Path) -> None:
    for file in files_of(original):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original, copy)
        (copy / file).unlink()
        assert outcome(copy, expected) == "refused", file


@pytest.mark.parametrize("directory", ["log", "tree-1"])
def test_a_database_gone(original: Path, expected: Started, tmp_path: Path, directory: str) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    shutil.rmtree(copy / directory)
    assert outcome(copy, expected) == "refused"


def later(path: Path) -> None:
    opened = OpenMember(path)
    opened.append(20)
    opened.close()


def later_vote(path: Path) -> None:
    opened = OpenMember(path)
    assert opened.log is not None
    opened.log.write(opened.log.hard_state.__class__(9, "c", 400), [], None, sync=True)
    opened.close()


@pytest.mark.parametrize("since", [later, later_vote])
def test_an_older_copy_of_the_log_alone_is_refused(
    original: Path, tmp_path: Path, since: Callable[[Path], None]
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    since(copy)
    expected = start_member(shutil.copytree(copy, tmp_path / "expected"))
    shutil.rmtree(copy / "log")
    shutil.copytree(original / "log", copy / "log")
    assert outcome(copy, expected) == "refused"


def test_an_older_copy_of_the_tree_alone_is_brought_up_to_date_by_the_log(
    original: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    later(copy)
    expected = start_member(shutil.copytree(copy, tmp_path / "expected"))
    shutil.rmtree(copy / "tree-1")
    shutil.copytree(original / "tree-1", copy / "tree-1")
    assert outcome(copy, expected) == "harmless"


def test_an_older_copy_of_the_tree_that_the_log_no_longer_reaches_is_refused(
    original: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    opened = OpenMember(copy)
    opened.append(20)
    opened.trim(465)
    opened.close()
    expected = start_member(shutil.copytree(copy, tmp_path / "expected"))
    shutil.rmtree(copy / "tree-1")
    shutil.copytree(original / "tree-1", copy / "tree-1")
    assert outcome(copy, expected) == "refused"


def test_another_members_directory_under_our_name_is_refused(original: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="belongs to member 'a'"):
        start_member(shutil.copytree(original, tmp_path / "copy"), member="b")
