"""Shares the time of a long run among the tests: `FUZZ_SECONDS` for all of them (`make fuzz`).

Rule of this file: without that variable every test does its few fixed rounds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.hostile_bytes import SECONDS_EACH


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = os.environ.get("FUZZ_SECONDS")
    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    if seconds and ours:
        os.environ[SECONDS_EACH] = str(float(seconds) / len(ours))
