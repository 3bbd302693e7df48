"""The recorded numbers, and how to tell what is different now.

Rule of this file: a number that fell is told like one that grew: what was gained should be recorded, so that
it is not lost again.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

RECORDED: Final = Path(__file__).with_name("recorded.toml")
# Bytes change by a few with every field: that is worth no alarm. Everything else is compared exactly.
BYTES_PERCENT: Final = 2
_HEADER: Final = """\
# What workloads cost: all three members together, for all operations of the workload. See test_counts.py.
# Written by `make counts`. A number that grows needs a reason in the commit that records it.
"""


def recorded() -> dict[str, dict[str, int]]:
    """Return the recorded numbers by workload."""
    return tomllib.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}


def record(found: Mapping[str, Mapping[str, int]]) -> None:
    """Write numbers down, in the order of the workloads."""
    lines = [_HEADER]
    for workload, counts in found.items():
        lines.append(f"[{workload}]")
        lines += [f'"{what}" = {count}' for what, count in sorted(counts.items()) if count]
        lines.append("")
    RECORDED.write_text("\n".join(lines), "utf-8")


def differences(found: Mapping[str, int], expected: Mapping[str, int], operations: int) -> list[str]:
    """Say what is not as recorded, in all and for each operation; nothing if all is."""
    return [
        f"{what}: {now} instead of {before}, {_each(now, operations)} instead of"
        f" {_each(before, operations)} each: {'more' if now > before else 'fewer'}"
        for what in sorted(found.keys() | expected.keys())
        if not _is_as_before(what, now := found.get(what, 0), before := expected.get(what, 0))
    ]


def _is_as_before(what: str, now: int, before: int) -> bool:
    if what.startswith("bytes"):
        return abs(now - before) * 100 <= BYTES_PERCENT * before
    return now == before


def _each(count: int, operations: int) -> str:
    return f"{count / operations:.2f}".rstrip("0").rstrip(".")
