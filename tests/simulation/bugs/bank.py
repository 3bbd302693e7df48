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
    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Bug:
    """One mistake. `file` is a path below the root of the repository; an edit may name another one.

    Some mistakes are harmless as long as something else stands behind them; those come together with a
    second edit that takes that away, and their stories say so.

    Attributes:
        is_crash: This mistake makes a member raise an exception (`crash = true` in its entry). For all others
            such an end (CRASH) says only that the patch is broken.
    """

    name: str
    story: str
    layer: str
    file: str
    edits: tuple[Edit, ...]
    is_crash: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Return every file that it changes, once."""
        return tuple(dict.fromkeys(edit.file for edit in self.edits))

    def planted_in(self, file: str, text: str) -> str:
        """Return the text of that file with the bug in it.

        Raises:
            BugDoesNotFitError: What it replaces is not there exactly once.
        """
        for edit in self.edits:
            if edit.file != file:
                continue
            count = text.count(edit.before)
            if count != 1:
                raise BugDoesNotFitError(
                    f"bug {self.name}: {file} holds what it replaces {count} times instead of once:"
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
            tuple(Edit(edit.get("file", entry["file"]), edit["before"], edit["after"]) for edit in edits),
            entry.get("crash", False),
        )


def copy_sources(target: Path, root: Path = ROOT) -> None:
    """Copy what a simulation needs, without the caches."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_IGNORED)
        else:
            shutil.copy(source, target / name)


def plant(bug: Bug, target: Path) -> None:
    """Put the bug into the copy at `target`."""
    for file in bug.files:
        path = target / file
        path.write_text(bug.planted_in(file, path.read_text(encoding="utf-8")), encoding="utf-8")
