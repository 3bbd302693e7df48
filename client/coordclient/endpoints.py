"""Which member to try next: shuffled rounds, pauses that grow between rounds.

Rule of this file: decides, does no I/O. The configured endpoints come first in every round, then those
that the service told of.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from coordclient.errors import InvalidArgumentError

PAUSE_SECONDS_FIRST = 0.05
PAUSE_SECONDS_MAX = 1.0
DEFAULT_PORT = 7400


def parse_endpoints(endpoints: str | Iterable[str]) -> list[str]:
    """Return the `host:port` pairs of a comma-separated string or a list of them.

    Raises:
        InvalidArgumentError: There is none, or one of them is not `host:port`.
    """
    parts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    found = [_parse(part.strip()) for part in parts if part.strip()]
    if not found:
        raise InvalidArgumentError('no endpoint given; use for example "127.0.0.1:7400"')
    return list(dict.fromkeys(found))


def _parse(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return f"{text}:{DEFAULT_PORT}"
    host, colon, port = text.rpartition(":")
    if not colon:
        return f"{text}:{DEFAULT_PORT}"
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidArgumentError(f"{text!r} is not an endpoint; use host:port, for example 127.0.0.1:7400")
    return text


class Endpoints:
    """The members that may be tried."""

    def __init__(self, endpoints: str | Iterable[str], dice: random.Random) -> None:
        self.configured = parse_endpoints(endpoints)
        self._learned: list[str] = []
        self._dice = dice
        self._round: list[str] = []
        self._rounds_failed = 0

    def learn(self, endpoints: Iterable[str]) -> None:
        """Remember further members that the service told of."""
        self._learned = [endpoint for endpoint in dict.fromkeys(endpoints) if endpoint not in self.configured]

    def known(self) -> list[str]:
        """Return all endpoints, in random order."""
        return self._shuffled("")

    def next(self, avoid: str = "") -> tuple[str, float]:
        """Return the endpoint to try and how many seconds to wait before.

        Args:
            avoid: Tried last in a new round: the member that was just left.
        """
        pause = 0.0
        if not self._round:
            pause = self._pause() if self._rounds_failed else 0.0
            self._rounds_failed += 1
            self._round = self._shuffled(avoid)
        return self._round.pop(0), pause

    def succeeded(self) -> None:
        """The last one tried works: the next search starts afresh, without a pause."""
        self._round = []
        self._rounds_failed = 0

    def _pause(self) -> float:
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_FIRST * 2 ** min(self._rounds_failed, 10))
        return self._dice.uniform(longest / 2, longest)

    def _shuffled(self, avoid: str) -> list[str]:
        known = [*self.configured]
        self._dice.shuffle(known)
        learned = [*self._learned]
        self._dice.shuffle(learned)
        return sorted([*known, *learned], key=lambda endpoint: endpoint == avoid)
