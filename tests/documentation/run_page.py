"""Runs the code of one page against a server of its own: `python -m tests.documentation.run_page PAGE`.

The blocks of a page share one namespace and one scratch directory, from top to bottom, as a reader would
type them. Addresses on the usual ports stand for the server.

Rule of this file: a block that fails ends the page, and says at which line of the page.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import yaml

import coordclient.cli
import coordsvc.cli
from coordsvc.testing import Server
from tests.documentation.pages import CODE, FOREIGN, PROSE, ROOT, Block, blocks

USUAL_ADDRESSES = re.compile(r"127\.0\.0\.1:7400(,127\.0\.0\.1:74\d\d)*")
COMMAND_SECONDS = 30.0
PROGRAMS = {"coordctl": coordclient.cli.main, "coordsvc": coordsvc.cli.main}


class PageError(Exception):
    """A block of the page does not do what the page says."""


class Page:
    """The state that the blocks of a page share."""

    def __init__(self, endpoints: str, directory: Path) -> None:
        self._endpoints = endpoints
        self._directory = directory
        module = ModuleType("page")  # dataclasses look their module up
        sys.modules["page"] = module
        self._names: dict[str, Any] = vars(module)  # whatever the page defines
        self._runner = asyncio.Runner()
        self.count = 0

    def close(self) -> None:
        self._runner.close()

    def take(self, block: Block) -> None:
        """Run a block, or check it if it is not to be run."""
        if block.language in PROSE:
            return
        if block.language not in CODE:
            raise PageError(f"{block}: a block needs one of the languages {CODE + PROSE}")
        check = {"python": self._python, "console": self._console}.get(block.language, _data)
        check(block)
        self.count += 1

    # -----------------------------------------------------------------------------------------
    # Python

    def _python(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + USUAL_ADDRESSES.sub(self._endpoints, block.code)
        code = compile(source, str(ROOT / block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if block.quoted:
            if block.quoted not in FOREIGN:
                raise PageError(f"{block}: whose code is {block.quoted!r}?")
            return
        if block.not_run:
            return
        if code.co_flags & inspect.CO_COROUTINE:
            work: Coroutine[Any, Any, None] = eval(code, self._names)  # the page's own code
            self._runner.run(work)
        else:
            exec(code, self._names)  # the page's own code

    # -----------------------------------------------------------------------------------------
    # Commands

    def _console(self, block: Block) -> None:
        for command, expected in commands(block.code):
            if block.not_run:
                parse(block, command)
                continue
            self._run(block, command, expected)

    def _run(self, block: Block, command: str, expected: str) -> None:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COORD_ENDPOINTS": self._endpoints,
            "NO_COLOR": "1",
        }
        script = USUAL_ADDRESSES.sub(self._endpoints, command).replace(".venv/bin/", "")
        outcome = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if expected and not matches(expected, outcome.stdout):
            raise PageError(f"{block}: {command}\nshould print:\n{expected}\nbut printed:\n{outcome.stdout}")
        if outcome.returncode:
            raise PageError(f"{block}: {command}\nended with {outcome.returncode}:\n{outcome.stdout}")


def commands(code: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that is shown."""
    found: list[tuple[str, str]] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        elif line.strip():
            raise PageError(f"a console block begins with a command: {line!r}")
    return found


def matches(expected: str, printed: str) -> bool:
    """Return whether output is as shown; `...` stands for anything, and columns may have other widths."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in expected.split("..."))
    return (
        re.fullmatch(rf"\s*{pattern}\s*".replace(r"\ ", r"\s+"), " ".join(printed.split()), re.DOTALL)
        is not None
    )


def parse(block: Block, command: str) -> None:
    """Check that a command which is not run would at least be understood."""
    if command.startswith("make "):
        target = command.split()[1]
        if f"\n{target}:" not in (ROOT / "Makefile").read_text("utf-8"):
            raise PageError(f"{block}: {command}: the Makefile has no {target}")
        return
    words = [word for word in command.replace("\\\n", " ").partition(" #")[0].split() if word != "&"]
    name = words[0].rpartition("/")[2]
    if name not in PROGRAMS:
        return
    program = PROGRAMS[name]
    assert isinstance(program, click.Command)
    try:
        context = program.make_context(name, words[1:], resilient_parsing=False)
        while isinstance(context.command, click.Group):
            rest = [*context._protected_args, *context.args]
            found, inner, rest = context.command.resolve_command(context, rest)
            assert inner is not None
            context = inner.make_context(found, rest, parent=context)
    except click.ClickException as error:
        raise PageError(f"{block}: {command}\n{error.format_message()}") from error


def _data(block: Block) -> None:
    if block.language == "toml":
        tomllib.loads(block.code)
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        yaml.safe_load(block.code)


def main(name: str) -> None:
    with Server() as server, tempfile.TemporaryDirectory() as directory:
        page = Page(server.endpoints, Path(directory))
        try:
            for block in blocks(name):
                page.take(block)
        except PageError as error:
            sys.exit(str(error))
        finally:
            page.close()
    print(f"{name}: {page.count} blocks")


if __name__ == "__main__":
    main(sys.argv[1])
