"""Picking an instance for each call: how, and from whom; which ones are left out after failures.

Rule of this file: no I/O, no waiting, no clock and no dice but those that are given. Everything is guarded
by one lock, so that any thread may pick and report while another takes in a new view.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from coordclient.errors import InvalidArgumentError, NoInstanceError
from coordclient.recipes.service_instances import Instances
from coordclient.types import Instance, Status

logger = logging.getLogger("coordclient.recipes")

ROUND_ROBIN = "round-robin"
RANDOM = "random"
LEAST_PENDING = "least-pending"
STICKY = "sticky"
STRATEGIES = (ROUND_ROBIN, RANDOM, LEAST_PENDING, STICKY)

BACKOFF_FACTOR_MAX = 32

Key: TypeAlias = str | bytes


@dataclass(slots=True)
class Account:
    """What a pool knows of one life of an instance."""

    instance: Instance
    rank: float  # so that not every client begins with the same instance
    pending: int = 0
    turn: float = 0.0  # of the weighted round-robin: the one with the largest is next
    failures: int = 0  # in a row
    ejections: int = 0  # in a row
    ejected_until: float = -math.inf


class Picker:
    """The instances of one service as one consumer sees them.

    Who can be picked: PASSING instances; if there is none, those with a WARNING. Never CRITICAL or DRAINING
    ones. An instance that fails `eject_after` times in a row is left out for `eject_seconds`; if it fails
    at once when it is back, for twice as long, and so on up to 32 times. A success settles everything.
    If all are ejected, all are used: that many failures say more about us than about them.
    """

    def __init__(
        self,
        name: str,
        strategy: str,
        *,
        eject_after: int,
        eject_seconds: float,
        now: Callable[[], float],
        dice: Random,
    ) -> None:
        """Begin without instances. `now` gives seconds that only grow."""
        if strategy not in STRATEGIES:
            raise InvalidArgumentError(f"pick must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if eject_after < 1:
            raise InvalidArgumentError(f"eject_after must be at least 1, not {eject_after}")
        if not 0 <= eject_seconds < math.inf:
            raise InvalidArgumentError(f"eject_seconds must be a finite number, not {eject_seconds!r}")
        self._name = name
        self._strategy = strategy
        self._eject_after = eject_after
        self._eject_seconds = eject_seconds
        self._now = now
        self._dice = dice
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, int], Account] = {}
        self._instances = Instances()
        self._is_panicking = False

    @property
    def instances(self) -> Instances:
        """Return the present view, whatever the state of the instances."""
        return self._instances

    @property
    def is_panicking(self) -> bool:
        """Return whether the last pick found all ejected, and therefore ignored that."""
        return self._is_panicking

    def ejected(self) -> tuple[Instance, ...]:
        """Return the instances that are left out at present because they failed."""
        with self._lock:
            now = self._now()
            return tuple(a.instance for a in self._accounts.values() if a.ejected_until > now)

    def take(self, view: Instances) -> None:
        """Take in a new view. What is known of an instance stays as long as it lives under one token."""
        with self._lock:
            accounts = {}
            for instance in view:
                key = (instance.id, instance.token)
                account = self._accounts.get(key) or Account(instance, self._dice.random())
                account.instance = instance
                accounts[key] = account
            self._accounts = accounts
            self._instances = view

    # -----------------------------------------------------------------------------------------
    # Picking

    def pick(self, key: Key | None = None) -> Instance:
        """Return the instance for the next call.

        Raises:
            NoInstanceError: None can be used.
            InvalidArgumentError: Sticky picking was given no key.
        """
        with self._lock:
            return self._pick(key).instance

    def check(self) -> None:
        """Raise NoInstanceError unless there is an instance that can be picked."""
        with self._lock:
            self._candidates()

    def begin(self, key: Key | None = None) -> Instance:
        """Pick an instance and count a call that is under way, until `end`."""
        with self._lock:
            account = self._pick(key)
            account.pending += 1
            return account.instance

    def end(self, instance: Instance) -> None:
        """A call that was begun has ended."""
        with self._lock:
            account = self._accounts.get((instance.id, instance.token))
            if account is not None and account.pending:
                account.pending -= 1

    def _pick(self, key: Key | None) -> Account:
        if self._strategy == STICKY and key is None:
            raise InvalidArgumentError("sticky picking needs a key: pick(key), or use(key)")
        candidates = self._candidates()
        if self._strategy == STICKY:
            assert key is not None
            return _rendezvous(candidates, key)
        if self._strategy == RANDOM:
            return self._draw(candidates)
        if self._strategy == LEAST_PENDING:
            least = min(map(_load, candidates))
            return self._draw([account for account in candidates if _load(account) == least])
        return _next_in_turn(candidates)

    def _draw(self, candidates: Sequence[Account]) -> Account:
        weights = [account.instance.weight for account in candidates]
        return self._dice.choices(candidates, weights)[0]

    def _candidates(self) -> list[Account]:
        now = self._now()
        usable: list[Account] = []
        for status in (Status.PASSING, Status.WARNING):
            of_status = [a for a in self._accounts.values() if a.instance.status is status]
            healthy = [account for account in of_status if account.ejected_until <= now]
            if healthy:
                self._is_panicking = False
                return healthy
            usable += of_status
        if not usable:
            raise NoInstanceError(self._name, self._why())
        if not self._is_panicking:
            logger.warning("all instances of %r fail: none is left out any more", self._name)
        self._is_panicking = True
        return usable

    def _why(self) -> str:
        if not self._accounts:
            return "nobody is registered" + (" (as far as is known)" if self._instances.is_stale else "")
        counts = Counter(account.instance.status for account in self._accounts.values())
        return ", ".join(f"{count} {status.value}" for status, count in sorted(counts.items()))

    # -----------------------------------------------------------------------------------------
    # Failures

    def report(self, instance: Instance, error: BaseException | None = None) -> None:
        """Say how a call ended: with an error, or well."""
        with self._lock:
            account = self._accounts.get((instance.id, instance.token))
            if account is None:
                return
            if error is None:
                account.failures = account.ejections = 0
                account.ejected_until = -math.inf
                return
            if account.ejected_until > self._now():
                return  # A call from before it was ejected, or in a panic: known already.
            account.failures += 1
            if account.failures >= self._eject_after:
                self._eject(account, error)

    def _eject(self, account: Account, error: BaseException) -> None:
        seconds = self._eject_seconds * min(BACKOFF_FACTOR_MAX, 2**account.ejections)
        account.ejections += 1
        account.failures = self._eject_after - 1  # When it is back, one failure is enough.
        account.ejected_until = self._now() + seconds
        logger.warning(
            "instance %s of %r is left out for %g s: %r", account.instance.id, self._name, seconds, error
        )


def _next_in_turn(candidates: Sequence[Account]) -> Account:
    """Smooth weighted round-robin, as in nginx: each gets its share, as evenly spread as can be."""
    for account in candidates:
        account.turn += account.instance.weight
    chosen = max(candidates, key=lambda account: (account.turn, account.rank))
    chosen.turn -= sum(account.instance.weight for account in candidates)
    return chosen


def _load(account: Account) -> float:
    """Return how busy it would be; all idle ones are alike, else the heaviest would get every call."""
    return (account.pending + 1) / account.instance.weight if account.pending else 0.0


def _rendezvous(candidates: Sequence[Account], key: Key) -> Account:
    """Return the candidate with the best score for the key: who comes or goes moves only its own keys."""
    return max(candidates, key=lambda account: (_score(account.instance, key), account.instance.id))


def _score(instance: Instance, key: Key) -> float:
    """Score an instance for a key: over all keys each wins in proportion to its weight."""
    text = key.encode() if isinstance(key, str) else key
    digest = hashlib.blake2b(instance.id.encode() + b"\0" + text, digest_size=8).digest()
    uniform = ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52  # never 0, never 1
    return -instance.weight / math.log(uniform)
