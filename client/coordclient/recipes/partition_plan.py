"""Who works on which item, and when a change in the group is acted upon.

Rule of this file: pure, and the same in every process and every version of Python: a plan follows from the
names of the items and the members alone. `now` is always seconds of one clock that never goes back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import quote

from coordclient.errors import InvalidArgumentError

SETTLE_TIMES_MAX = 5  # however restless the group is, after so many times `settle` a plan is made


def owner_of(item: str, members: Iterable[str]) -> str | None:
    """Return the member that an item belongs to; None if there is no member.

    This is rendezvous hashing: every member has a weight for the item, and the heaviest has it. So a member
    that comes takes only what will be its own, about one part in n, and what a member had that goes is
    spread over the others; nothing else moves. The shares are equal on average, not exactly.
    """
    return max(members, key=lambda member: (_weight(item, member), member), default=None)


def share_of(member: str, items: Iterable[str], members: Collection[str]) -> frozenset[str]:
    """Return the items that belong to a member; none if it is not among the members."""
    if member not in members:
        return frozenset()
    return frozenset(item for item in items if owner_of(item, members) == member)


def _weight(item: str, member: str) -> bytes:
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.blake2b(f"{len(item)}:{item}{member}".encode(), digest_size=8).digest()


def checked_items(items: Iterable[str], path: str) -> tuple[str, ...]:
    """Return the items, sorted, each once."""
    if isinstance(items, str):
        raise InvalidArgumentError("the items must be a list of names, not one text", path=path)
    found = tuple(sorted(set(items)))
    if not found:
        raise InvalidArgumentError("there must be items to divide", path=path)
    if not all(found) or any(type(item) is not str for item in found):
        raise InvalidArgumentError("each item must be a text that is not empty", path=path)
    return found


def fingerprint_of(items: Iterable[str]) -> str:
    """Return what tells two sets of items apart."""
    return hashlib.sha256(json.dumps(sorted(items)).encode()).hexdigest()[:32]


def node_name(item: str) -> str:
    """Return the name of the node that stands for an item; an item may hold any characters."""
    return quote(item, safe="") if item.strip(".") else item.replace(".", "%2E")


def payload_of(fingerprint: str) -> bytes:
    """Return what a member says of itself in the group."""
    return json.dumps({"items": fingerprint}).encode()


def fingerprints(members: Mapping[str, bytes]) -> dict[str, str]:
    """Return the fingerprint of every member that has one; others in the group divide nothing."""
    found = {}
    for name, payload in members.items():
        try:
            content = json.loads(payload)
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get("items"), str):
            found[name] = content["items"]
    return found


class Settling:
    """Waits until the group has been quiet for a while, but not for ever."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._first = 0.0
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """Return when to act; None: there is nothing to act upon."""
        return self._due

    def note(self, now: float) -> None:
        """The group has changed."""
        if self._due is None:
            self._first = now
        latest = self._first + SETTLE_TIMES_MAX * self._settle_seconds
        self._due = min(now + self._settle_seconds, latest)

    def take(self, now: float) -> bool:
        """Return whether it is time to act; if so, it is done."""
        if self._due is None or now < self._due:
            return False
        self._due = None
        return True
