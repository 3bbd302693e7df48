"""Cancel a coroutine at its n-th await: nothing it has begun may be left behind, wherever it stands.

Rule of this file: it drives one coroutine as `await` does, and counts.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def counting_awaits(work: Coroutine[Any, Any, T], stopped: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await `work`, and call `stopped` each time that it has come to a stop and waits."""
    try:
        waits_for = work.send(None)
        while True:
            stopped()
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001  # all of them belong to `work`
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as end:
        result: T = end.value
        return result
