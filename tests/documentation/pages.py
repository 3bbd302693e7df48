"""The code blocks of README and docs: where they are, and what is to be done with each.

A block is a fence with a language. Right before it a comment may say `<!-- not run: why -->`: then it is
only checked (Python must compile, commands must parse), and the reason must be given.

Rule of this file: it reads pages; `run_page.py` runs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PROSE = ("text",)  # diagrams, output, excerpts: nothing to run
CODE = ("python", "console", "toml", "ini", "yaml", "json")
FOREIGN = ("kazoo", "etcd", "consul", "zookeeper")  # ```python kazoo: another library's code, compiled only
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(\S.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        line: Where its code begins, counted from 1.
        quoted: The library whose code it is, if not ours.
        not_run: Why it is not run; empty if it is.
    """

    page: str
    line: int
    language: str
    quoted: str
    code: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return every page, relative to the repository."""
    found = [ROOT / "README.md", ROOT / "client/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found if "_build" not in path.parts]


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order. Directives of the documentation builder are not code."""
    before = ""
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text("utf-8")):
        if token.type == "fence" and not token.info.startswith("{"):
            language, _, quoted = token.info.strip().partition(" ")
            reason = _NOT_RUN.search(before)
            assert token.map is not None
            yield Block(page, token.map[0] + 2, language, quoted, token.content, reason[1] if reason else "")
        if token.nesting == 0 or token.type == "inline":
            before = token.content if token.type == "html_block" else ""
