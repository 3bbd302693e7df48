"""Tidiness that no linter knows: sizes, docstrings, names, marks. A limit may be lowered, never raised."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("coordsvc", "client/coordclient", "tests", "examples", "bench")
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
BANNED_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"})
UNFINISHED_MARKS = ("TO" + "DO", "FIX" + "ME")  # in two parts, so that this file does not find itself


@cache
def modules() -> tuple[tuple[Path, str, ast.Module], ...]:
    """Every module of ours with its text and its tree."""
    found = []
    for directory in SOURCES:
        for path in sorted((ROOT / directory).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append((path.relative_to(ROOT), text, ast.parse(text)))
    assert len(found) > 50, "the sources were not found"
    return tuple(found)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [Path(name) for name in listing.stdout.split("\0") if name]


def test_every_module_says_what_it_is() -> None:
    silent = [str(path) for path, text, tree in modules() if text.strip() and not ast.get_docstring(tree)]

    assert silent == []


def test_files_are_short() -> None:
    long = {str(path): text.count("\n") for path, text, _ in modules() if text.count("\n") > FILE_LINES_MAX}

    assert long == {}


def test_functions_fit_a_screen() -> None:
    long = {
        f"{path}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path, _, tree in modules()
        for function in functions(tree)
    }

    assert {where: lines for where, lines in long.items() if lines > FUNCTION_LINES_MAX} == {}


def test_every_name_of_a_module_means_something() -> None:
    vague = [str(path) for path, _, _ in modules() if BANNED_NAMES & set(path.with_suffix("").parts)]

    assert vague == []


def test_nothing_is_marked_unfinished() -> None:
    marked = [
        f"{path}:{number}"
        for path, text, _ in modules()
        for number, line in enumerate(text.splitlines(), start=1)
        if any(mark in line for mark in UNFINISHED_MARKS)
    ]

    assert marked == []


def test_every_test_module_has_tests() -> None:
    empty = [
        str(path)
        for path, _, tree in modules()
        if path.name.startswith("test_") and not any(f.name.startswith("test_") for f in functions(tree))
    ]

    assert empty == []


def test_generated_code_is_marked_and_nothing_else_is_among_it() -> None:
    generated = [path for path in (ROOT / "client/coordproto/v1").iterdir() if "_pb2" in path.name]
    unmarked = [path.name for path in generated if "do not edit" not in path.read_text("utf-8")[:400].lower()]

    assert generated
    assert unmarked == []
    assert "client/coordproto/** linguist-generated=true" in (ROOT / ".gitattributes").read_text("utf-8")


def test_decisions_are_numbered_without_gaps_and_complete() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))

    assert [record.name[:4] for record in records] == [
        f"{number:04}" for number in range(1, len(records) + 1)
    ]
    for record in records:
        text = record.read_text("utf-8")
        parts = [
            part for part in ("Context", "Decision", "Consequences", "Rejected") if f"**{part}.**" not in text
        ]
        assert parts == [], f"{record.name} lacks {parts}"


def test_every_guarantee_names_tests_that_exist() -> None:
    parts = (ROOT / "docs/guarantees.md").read_text("utf-8").split("\n## G")[1:]
    missing = []
    for part in parts:
        named = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", part)
        assert named, f"G{part[:40]} names no test"
        for file, test in named:
            path = ROOT / file
            if not path.exists() or f"def {test}" not in path.read_text("utf-8"):
                missing.append(f"{file}::{test}")

    assert len(parts) == 10
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for piece in document.read_text("utf-8").split("](")[1:]:
            target = piece.partition(")")[0].partition("#")[0]
            if target and "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")

    assert broken == []


def test_programs_and_scripts_can_be_run() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_nothing_that_programs_leave_behind_is_tracked() -> None:
    left_behind = [str(path) for path in tracked_files() if path.suffix in {".pyc", ".log", ".ldb"}]

    assert left_behind == []
