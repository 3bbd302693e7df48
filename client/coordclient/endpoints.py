"""Which member to try next: shuffled rounds, pauses that grow between rounds.

Rule of this file: decides, does no I/O. The configured endpoints are never forgotten. They come first until
the service's own list of its members is known to work from here; from then on that list comes first, and what
was configured but is no member any more is the last resort. Until then the list may well be of no use here:
behind a proxy or a translated address only the configured endpoints can be reached.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from coordclient.errors import InvalidArgumentError

PAUSE_SECONDS_FIRST = 0.05
PAUSE_SECONDS_MAX = 1.0
ATTEMPT_SECONDS_MIN = 1.0
ATTEMPT_SECONDS_MAX = 5.0
FIRST_ATTEMPT_SECONDS_MAX = 1.5  # while there are others to try: longer than an election takes
DEFAULT_PORT = 7400
_WILDCARD_HOSTS = ("", "0.0.0.0", "::")


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
        self._members: list[str] = []  # as the service told last
        self._members_are_reachable = False  # one of those that it told of was attached to
        self._tried = ""
        self._dice = dice
        self._round: list[str] = []
        self._rounds_failed = 0

    def learn(self, endpoints: Iterable[str]) -> None:
        """Take over the members that the service told of through the endpoint that was tried last.

        An empty list says that nothing is known, and changes nothing.
        """
        members = [endpoint for endpoint in dict.fromkeys(endpoints) if _is_of_use(endpoint)]
        if not members:
            return
        if self._tried in members:
            self._members_are_reachable = True
        if members != self._members:
            self._members = members
            self._round = []  # of the members as they were

    def known(self) -> list[str]:
        """Return all endpoints, those that are worth trying first in front, else in random order."""
        return self._order("")

    def next(self, avoid: str = "") -> tuple[str, float]:
        """Return the endpoint to try and how many seconds to wait before.

        Args:
            avoid: Tried after its like in a new round: the member that was just left.
        """
        pause = 0.0
        if not self._round:
            pause = self._pause() if self._rounds_failed else 0.0
            self._rounds_failed += 1
            self._round = self._order(avoid)
        self._tried = self._round.pop(0)
        return self._tried, pause

    def patience(self, timeout_s: float) -> float:
        """Return how many seconds to wait until the one tried last has taken a session with this timeout in.

        It doubles with each round in vain but the first. An attempt that is given up has its price all the
        same, an entry of the log and a session that must expire: many impatient clients would keep a slow
        cluster slow for ever.
        """
        patience_s = min(max(timeout_s / 3, ATTEMPT_SECONDS_MIN), ATTEMPT_SECONDS_MAX)
        if self._rounds_failed <= 1 and len({*self.configured, *self._members}) > 1:
            return min(patience_s, FIRST_ATTEMPT_SECONDS_MAX)
        return min(patience_s * (1 << min(max(self._rounds_failed - 2, 0), 10)), ATTEMPT_SECONDS_MAX)

    def succeeded(self) -> None:
        """The last one tried works: the next search starts afresh, without a pause."""
        self._round = []
        self._rounds_failed = 0

    def _pause(self) -> float:
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_FIRST * 2 ** min(self._rounds_failed, 10))
        return self._dice.uniform(longest / 2, longest)

    def _order(self, avoid: str) -> list[str]:
        if self._members_are_reachable:
            former = [endpoint for endpoint in self.configured if endpoint not in self._members]
            return [*_last(avoid, self._shuffled(self._members)), *_last(avoid, self._shuffled(former))]
        further = [endpoint for endpoint in self._members if endpoint not in self.configured]
        return _last(avoid, [*self._shuffled(self.configured), *self._shuffled(further)])

    def _shuffled(self, endpoints: list[str]) -> list[str]:
        shuffled = [*endpoints]
        self._dice.shuffle(shuffled)
        return shuffled


def _last(avoid: str, endpoints: list[str]) -> list[str]:
    return sorted(endpoints, key=lambda endpoint: endpoint == avoid)


def _is_of_use(endpoint: str) -> bool:
    """Whether a client can connect there: a wildcard would lead it to its own host, and to who knows whom."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]") not in _WILDCARD_HOSTS and port.isascii() and port.isdigit()
