"""mypy is strict about a program that uses every public name; this says that it is every one."""

from __future__ import annotations

import ast
from pathlib import Path

import coordclient

PROGRAM = Path(__file__).with_name("every_public_name.py")


def test_the_program_for_mypy_uses_every_public_name() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    assert not set(coordclient.__all__) - used


def test_the_program_gives_mypy_nothing_to_overlook() -> None:
    source = PROGRAM.read_text("utf-8")

    assert "type: ignore" not in source
    assert "cast(" not in source
