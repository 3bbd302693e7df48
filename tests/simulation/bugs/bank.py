"""The planted bugs: read from the files beside this one, and put into a copy of the sources.

Rule of this file: what a bug replaces must occur exactly once; a bug that no longer fits the code is an
error, never passed over.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
COPIED = ("coordsvc", "client", "tests", "pyproject.toml")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "processes", "integration", "chaos")


class BugDoesNotFitError(Exception):
    """The code has changed and the bug has not."""


@dataclass(frozen=True, slots=True)
class Edit:
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Bug:
    """One mistake. `edits` are all in `file`, a path below the root of the repository."""

    name: str
    story: str
    layer: str
    file: str
    edits: tuple[Edit, ...]

    def planted_in(self, text: str) -> str:
        """Return the text of the file with the bug in it.

        Raises:
            BugDoesNotFitError: What it replaces is not there exactly once.
        """
        for edit in self.edits:
            count = text.count(edit.before)
            if count != 1:
                raise BugDoesNotFitError(
                    f"bug {self.name}: {self.file} holds what it replaces {count} times instead of once:"
                    f"\n{edit.before}"
                )
            text = text.replace(edit.before, edit.after)
        return text


def all_bugs() -> list[Bug]:
    """Return every bug of the bank, by layer from the bottom up."""
    return [
        bug
        for layer in ("consensus", "membership", "statemachine", "replica", "sdk")
        for bug in _bugs_of(layer)
    ]


def _bugs_of(layer: str) -> Iterator[Bug]:
    found = tomllib.loads((Path(__file__).parent / f"{layer}.toml").read_text(encoding="utf-8"))
    for entry in found["bug"]:
        edits = (entry, *entry.get("more", ()))
        yield Bug(
            entry["name"],
            entry["story"],
            layer,
            entry["file"],
            tuple(Edit(edit["before"], edit["after"]) for edit in edits),
        )


def copy_sources(target: Path) -> None:
    """Copy what a simulation needs, without the caches."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_IGNORED)
        else:
            shutil.copy(source, target / name)


def plant(bug: Bug, target: Path) -> None:
    """Put the bug into the copy at `target`."""
    path = target / bug.file
    path.write_text(bug.planted_in(path.read_text(encoding="utf-8")), encoding="utf-8")
