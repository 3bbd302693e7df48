"""The bug bank fits the code: each planted bug can be planted, changes something, and compiles."""

from __future__ import annotations

import pytest

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
