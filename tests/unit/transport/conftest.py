"""On which event loops the tests of links run.

Rule of this file: members run on uvloop, and applications test with members on asyncio. How a connection has
ended is evidence, so both must say the same of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

_ON_BOTH = ("test_peer_gone", "test_listener", "test_links")


@pytest.hookimpl(optionalhook=True)  # older versions of pytest-asyncio have it not
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in _ON_BOTH:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
