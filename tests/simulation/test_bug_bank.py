"""The bug bank fits the code, and a bug counts as found only by what it has done itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.simulation.bugs import __main__ as searching
from tests.simulation.bugs.bank import ROOT, Bug, BugDoesNotFitError, Edit, all_bugs

BUGS = all_bugs()


def test_there_are_enough_bugs_with_names_of_their_own() -> None:
    names = [bug.name for bug in BUGS]

    assert len(names) >= 25
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_bug_fits_the_code(bug: Bug) -> None:
    for file in bug.files:
        text = (ROOT / file).read_text(encoding="utf-8")

        planted = bug.planted_in(file, text)

        assert planted != text
        compile(planted, file, "exec")


def test_a_bug_that_no_longer_fits_is_an_error() -> None:
    bug = Bug("gone", "", "consensus", "file.py", (Edit("file.py", "not there", ""),))

    with pytest.raises(BugDoesNotFitError, match="0 times"):
        bug.planted_in("file.py", "some text")


PLANTED, SOUND = Path("planted"), Path("sound")
FAILURES = {3: "CRASH", 5: "G3", 8: "G5"}  # with the bug, by seed
FAILS_ANYWAY = 5


def _simulate(directory: Path, *arguments: str) -> searching.Failure | None:
    """Stand in for the simulator: seed 5 fails without the bug too."""
    given = dict(pairwise(arguments))
    if directory == SOUND:
        seed = int(given["--seed"])
        return searching.Failure(seed, FAILURES[seed]) if seed == FAILS_ANYWAY else None
    first = int(given["--first-seed"])
    for seed in range(first, first + int(given["--seeds"])):
        if seed in FAILURES:
            return searching.Failure(seed, FAILURES[seed])
    return None


@pytest.mark.parametrize(
    ("is_crash", "seeds_max", "found"),
    [
        (False, 10, searching.Find(8, "G5")),
        (False, 7, searching.Find(0, "")),
        (True, 10, searching.Find(3, "CRASH")),
    ],
    ids=["behind a crash and a sound failure", "not within so many", "a crash that it is known for"],
)
def test_only_what_the_bug_has_done_gives_it_away(
    monkeypatch: pytest.MonkeyPatch, is_crash: bool, seeds_max: int, found: searching.Find
) -> None:
    monkeypatch.setattr(searching, "simulate", _simulate)
    bug = Bug("any", "", "consensus", "file.py", (), is_crash)

    assert searching.search(bug, PLANTED, SOUND, 1, seeds_max) == found
