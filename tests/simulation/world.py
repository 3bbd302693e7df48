"""The simulated world: one clock, one queue of what happens next, and dice that never shift.

Randomness is drawn by key, never from a stream: `draw(purpose, *names)` is a hash of the seed, the purpose
and the names, so that leaving one fault out changes no decision about another. Shrinking rests on that.

Rule of this file: it knows nothing of members, clients or networks. No set is iterated, nothing is hashed
with `hash()`, no real clock is read: the same seed gives the same trace in every interpreter.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from tests.simulation.client_links import ClientLink

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

_KEPT_FOR_THE_REPORT = 40
_DRAWS = 1 << 64

Handler: TypeAlias = Callable[[], None]
TraceEvent: TypeAlias = tuple[int, str, str, tuple[object, ...]]


class Gateway(Protocol):
    """How clients reach the members: `client_links.ClientNetwork`."""

    def connect(self, client: str, member: str) -> ClientLink:
        """Begin to connect. The callbacks of the link are to be set before anything else happens."""


class World:
    """`now_ns` begins at one second, so that no clock in the world reads zero."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ns = SECOND
        self.steps = 0
        self.gateway: Gateway | None = None
        self.last_events: dict[str, deque[TraceEvent]] = {}
        self.sink: Callable[[TraceEvent], None] | None = None  # gets every event: `--trace`
        self._heap: list[tuple[int, int, Handler]] = []
        self._sequence = 0
        self._dice = hashlib.blake2b(f"{seed}".encode(), digest_size=8)
        self._digest = hashlib.blake2b(digest_size=16)

    # -----------------------------------------------------------------------------------------
    # Time

    def at(self, delay_ns: int, handler: Handler) -> None:
        """Have `handler` called after `delay_ns`; what is due at the same time happens in order of asking."""
        assert delay_ns >= 0, "nothing happens in the past"
        self._sequence += 1
        heappush(self._heap, (self.now_ns + delay_ns, self._sequence, handler))

    def step(self) -> bool:
        """Let the next thing happen. Returns False if nothing is left to happen."""
        if not self._heap:
            return False
        self.now_ns, _, handler = heappop(self._heap)
        self.steps += 1
        handler()
        return True

    def run_until(self, until_ns: int, is_done: Callable[[], bool] | None = None) -> bool:
        """Let everything happen up to `until_ns`, or until `is_done`. Returns whether it was done."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            self.step()
            if is_done is not None and is_done():
                return True
        self.now_ns = max(self.now_ns, until_ns)
        return False

    # -----------------------------------------------------------------------------------------
    # Dice

    def draw(self, purpose: str, *names: object) -> int:
        """Return 64 bits that depend on the seed, the purpose and the names alone."""
        dice = self._dice.copy()
        dice.update(f"/{purpose}/{'/'.join(map(str, names))}".encode())
        return int.from_bytes(dice.digest(), "big")

    def draw_below(self, bound: int, purpose: str, *names: object) -> int:
        """Return a number in [0, bound)."""
        assert bound > 0, "there is no number below zero"
        return self.draw(purpose, *names) % bound

    def chance(self, probability: float, purpose: str, *names: object) -> bool:
        """Return True with this probability."""
        return probability > 0 and self.draw(purpose, *names) < probability * _DRAWS

    def draw_log(self, low: int, high: int, purpose: str, *names: object) -> int:
        """Return a number in [low, high], each order of magnitude as likely as any other."""
        assert 0 < low <= high, "a logarithm needs positive numbers"
        part = self.draw(purpose, *names) / _DRAWS
        return max(low, min(high, int(low * (high / low) ** part + 0.5)))

    # -----------------------------------------------------------------------------------------
    # Clients

    def connect(self, client: str, member: str) -> ClientLink:
        """Begin to connect a client to a member. See `client_links.py`."""
        assert self.gateway is not None, "this world has no members yet"
        return self.gateway.connect(client, member)

    # -----------------------------------------------------------------------------------------
    # Trace

    def trace(self, who: str, what: str, *details: object) -> None:
        """Note what happened: it counts for the digest, and the last of it goes into a failure's report."""
        event = (self.now_ns, who, what, details)
        self._digest.update(repr(event).encode())
        kept = self.last_events.get(who)
        if kept is None:
            kept = self.last_events[who] = deque(maxlen=_KEPT_FOR_THE_REPORT)
        kept.append(event)
        if self.sink is not None:
            self.sink(event)

    def trace_digest(self) -> str:
        """Return a hash of all that happened so far."""
        return self._digest.hexdigest()
