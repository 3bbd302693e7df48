"""Every code block of README and docs does what the page says. What is not run says why, and is checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import coordclient
import coordsvc.testing
from tests.documentation.pages import CODE, FOREIGN, PROSE, ROOT, Block, blocks, pages
from tests.documentation.run_page import Page, PageError, commands, matches, parse

PAGE_SECONDS = 90.0


@pytest.mark.parametrize("page", [page for page in pages() if any(True for _ in blocks(page))])
def test_the_code_of_a_page_runs(page: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.documentation.run_page", page],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=False,
    )

    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def test_every_block_has_a_language_and_only_known_libraries_are_quoted() -> None:
    odd = [
        str(block)
        for page in pages()
        for block in blocks(page)
        if block.language not in CODE + PROSE or (block.quoted and block.quoted not in FOREIGN)
    ]

    assert not odd


def test_the_reference_has_every_public_name() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / "docs/reference").glob("*.md")))
    listed = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)$", text, re.MULTILINE))
    public = {
        f"{module.__name__}.{name}" for module in (coordclient, coordsvc.testing) for name in module.__all__
    }

    assert listed == public | {"coordsvc.testing"}


@pytest.mark.parametrize("page", ["docs/from-kazoo.md", "docs/from-etcd.md", "docs/from-consul.md"])
def test_a_porting_page_has_code_for_every_recipe(page: str) -> None:
    code = "".join(block.code for block in blocks(page) if block.language == "python" and not block.quoted)
    recipes = [name for name in vars(coordclient.Client) if not name.startswith("_")]

    assert [name for name in recipes if not re.search(rf"\bclient\.{name}\b", code)] == []


def test_a_console_block_is_cut_into_commands_and_what_they_print() -> None:
    assert commands("$ ls \\\n  -l\ntotal 0\n$ true\n") == [("ls \\\n  -l", "total 0\n"), ("true", "")]


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("a   b\n", "a b\n", True),
        ("zxid ...\n", "zxid 17\n", True),
        ("a\n...\nz\n", "a\nb\nc\nz\n", True),
        ("a b\n", "a c\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_printed_output_is_compared_up_to_columns_and_dots(shown: str, printed: str, fits: bool) -> None:
    assert matches(shown, printed) == fits


def test_a_command_that_fails_fails_the_page_whatever_it_is_to_print(tmp_path: Path) -> None:
    page = Page("127.0.0.1:1", tmp_path)

    with pytest.raises(PageError, match="ended with 3"):
        page.take(Block("page.md", 1, "console", "", "$ sh -c 'echo oh; exit 3'\n...\n", ""))
    page.close()


@pytest.mark.parametrize(
    "command", ["coordctl get", "coordctl no-such-command", "coordsvc serve --no-such-option"]
)
def test_a_command_that_is_not_run_must_be_understood_all_the_same(command: str) -> None:
    block = Block("page.md", 1, "console", "", command, "a test")

    with pytest.raises(PageError, match=r"page\.md:1"):
        parse(block, command)
