"""What the users of recipes did and saw: acts, written as they happen, one JSON line each.

An act is written when it begins and when it ends, so that one in which its process died is known, too.
Times are seconds of `coordclient.clock`, which all processes of one machine share.

Rule of this file: it notes and reads back; what is right or wrong is for the checkers to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self, TextIO

from coordclient import clock


@dataclass(slots=True)
class Act:
    """One thing that one process did with one recipe.

    Attributes:
        ended_s: None if it never ended: its process was killed, or the history stops before.
        error: The name of the error with which it ended; empty if it succeeded.
    """

    process: str
    recipe: str
    number: int
    operation: str
    began_s: float
    ended_s: float | None = None
    error: str = ""
    details: dict[str, object] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether it ended, and well."""
        return self.ended_s is not None and not self.error

    def integer(self, name: str) -> int:
        found = self.details[name]
        assert isinstance(found, int), f"{name} of {self} is a number"
        return found

    def seconds(self, name: str) -> float:
        found = self.details[name]
        assert isinstance(found, int | float), f"{name} of {self} is a moment"
        return float(found)

    def text(self, name: str) -> str:
        found = self.details[name]
        assert isinstance(found, str), f"{name} of {self} is a text"
        return found

    def table(self, name: str) -> dict[str, object]:
        found = self.details[name]
        assert isinstance(found, dict), f"{name} of {self} is a table"
        return found

    def items(self, name: str) -> list[object]:
        found = self.details[name]
        assert isinstance(found, list), f"{name} of {self} is a list"
        return found

    def has(self, name: str) -> bool:
        return name in self.details

    def __str__(self) -> str:
        end = "never ended" if self.ended_s is None else f"ended {self.ended_s:.3f}"
        failure = f" with {self.error}" if self.error else ""
        told = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.process}'s {self.operation} (began {self.began_s:.3f}, {end}{failure}) {told}"


class Notebook:
    """Where one process writes down what it does."""

    def __init__(self, process: str, file: TextIO, now: Callable[[], float] = clock.now) -> None:
        self.process = process
        self.now = now
        self._file = file
        self._numbers = count(1)

    def begin(self, recipe: str, operation: str, **details: object) -> OpenAct:
        """Note the beginning of an act. Use it with `with`, or call its `end`."""
        number = next(self._numbers)
        self.write({"n": number, "recipe": recipe, "operation": operation, "at": self.now(), **_of(details)})
        return OpenAct(self, number)

    def write(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps({"process": self.process, **line}, separators=(",", ":")) + "\n")
        self._file.flush()  # What was noted survives a kill.


class OpenAct:
    """An act under way. An exception that leaves the `with` block is noted as its error, and goes on."""

    def __init__(self, notebook: Notebook, number: int) -> None:
        self._notebook = notebook
        self._number = number

    def note(self, **details: object) -> None:
        """Add what is known now."""
        self._notebook.write({"n": self._number, **_of(details)})

    def end(self, error: BaseException | None = None) -> None:
        name = "" if error is None else type(error).__name__
        self._notebook.write({"n": self._number, "end": self._notebook.now(), "error": name})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)


def _of(details: Mapping[str, object]) -> dict[str, object]:
    return {"details": dict(details)} if details else {}


def read_acts(files: Iterable[Path]) -> list[Act]:
    """Return what was noted, in the order in which it began. A killed process may leave a torn line."""
    acts: dict[tuple[str, int], Act] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                noted = json.loads(line)
            except ValueError:
                continue
            key = (noted["process"], noted["n"])
            if "operation" in noted:
                acts[key] = Act(key[0], noted["recipe"], key[1], noted["operation"], noted["at"])
            act = acts[key]
            act.details.update(noted.get("details", {}))
            if "end" in noted:
                act.ended_s, act.error = noted["end"], noted["error"]
    return sorted(acts.values(), key=lambda act: act.began_s)
