"""The tests shown to users in `docs/testing-your-application.md` pass as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs/testing-your-application.md"


def test_the_tests_on_the_page_pass(pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    tests = [block for block in blocks if re.search(r"^def test_", block, re.MULTILINE)]
    assert len(tests) == 5
    pytester.makepyfile("\n\n".join(tests))
    options = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=6)
