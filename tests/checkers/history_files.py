"""Histories as files: one record a line, as JSON. Several files, one a client, are one history.

Rule of this file: what is written is read back equal. A value class becomes an object with its name under
"is" and its fields, bytes become {"is": "bytes"}; whatever else is met is refused, never guessed. The last
line of a client that was killed may be cut short, and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from coordsvc.statemachine import commands, results
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.types import Stat
from tests.checkers import history as records
from tests.checkers.history import Facts, History, Record

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

_RECORD_FIELDS = {
    records.Operation: "operations",
    records.WatchRecord: "watches",
    records.SessionRecord: "sessions",
    records.LockRecord: "locks",
    records.FencedWrite: "fenced_writes",
    Change: "committed",
    records.SessionEnd: "session_ends",
    records.MemberDigest: "digests",
}
_VALUE_CLASSES: tuple[type[Any], ...] = (
    Stat,
    records.Sync,
    records.Synced,
    records.WatchEvent,
    commands.Guard,
    commands.Create,
    commands.Set,
    commands.Delete,
    commands.Check,
    commands.Get,
    commands.Exists,
    commands.ListChildren,
    commands.Compare,
    commands.Transaction,
    results.Failure,
    results.Created,
    results.WasSet,
    results.Deleted,
    results.Checked,
    results.Node,
    results.ExistsResult,
    results.Children,
    results.TransactionResult,
)
_BY_NAME: dict[str, type[Any]] = {
    each.__name__: each for each in (*_VALUE_CLASSES, *_RECORD_FIELDS, records.Facts)
}
_FIELD_NAMES = {each: tuple(part.name for part in fields(each)) for each in _BY_NAME.values()}


class HistoryFileError(Exception):
    """A file is no history."""


def to_json(value: object) -> Json:
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value)  # an enum's number too
    if isinstance(value, bytes):
        return {"is": "bytes", "hex": value.hex()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    names = _FIELD_NAMES.get(type(value))
    if names is None:
        raise HistoryFileError(f"a history cannot hold {value!r}")
    written: dict[str, Any] = {"is": type(value).__name__}
    for name in names:
        written[name] = to_json(getattr(value, name))
    return written


def from_json(value: Json) -> Any:  # the classes of the records say what is meant
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    name = value.get("is")
    if name == "bytes":
        return bytes.fromhex(value["hex"])
    if name not in _BY_NAME:
        raise HistoryFileError(f"a history holds no {name!r}")
    arguments = {key: from_json(part) for key, part in value.items() if key != "is"}
    if name == "Failure":
        arguments["code"] = results.ErrorCode(arguments["code"])
        arguments["op_codes"] = [results.ErrorCode(code) for code in arguments["op_codes"]]
    elif name == "Change":
        arguments["type"] = ChangeType(arguments["type"])
    try:
        return _BY_NAME[name](**arguments)
    except TypeError as error:
        raise HistoryFileError(f"not a {name}: {error}") from error


def write_record(file: TextIO, record: Record) -> None:
    file.write(json.dumps(to_json(record), separators=(",", ":"), ensure_ascii=False) + "\n")


def write_history(path: Path, history: History) -> None:
    with path.open("w", encoding="utf-8") as file:
        write_record(file, history.facts)
        for name in _RECORD_FIELDS.values():
            for record in getattr(history, name):
                write_record(file, record)


def read_history(paths: Iterable[Path]) -> History:
    """Read one history out of the files of all its recorders. The facts of the last file count."""
    history = History()
    for path in paths:
        for record in _records(path):
            if isinstance(record, Facts):
                history.facts = record
                continue
            name = _RECORD_FIELDS.get(type(record))
            if name is None:
                raise HistoryFileError(f"{path}: a {type(record).__name__} is no record")
            getattr(history, name).append(record)
    return history


def _records(path: Path) -> Iterator[Any]:
    lines = path.read_text(encoding="utf-8").split("\n")
    last = len(lines) - 1
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            parsed = json.loads(line)
        except json.JSONDecodeError as error:
            if number == last:
                return  # Its writer was killed in the middle of the line.
            raise HistoryFileError(f"{path}, line {number + 1}: {error}") from error
        yield from_json(parsed)
