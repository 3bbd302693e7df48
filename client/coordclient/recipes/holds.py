"""Holds: who of this process holds what, and how many times.

A lock may be taken again by the task or thread that has it: either that is a mistake, which would have it
wait for itself for ever, or it is a further level of the same grant. So what a client holds is noted here,
by path and owner.

Rule of this file: bookkeeping happens at once, on the event loop; only the contender's node goes later.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TypeAlias
from weakref import WeakKeyDictionary

from coordclient.operations import Operations
from coordclient.recipes.grants import Grant
from coordclient.recipes.places import Place

_Key: TypeAlias = tuple[str, object]
_holds: WeakKeyDictionary[Operations, dict[_Key, Hold]] = WeakKeyDictionary()


class Hold:
    """What one owner holds at one path, in any number of levels."""

    def __init__(self, client: Operations, path: str, owner: object, place: Place) -> None:
        self.place = place
        self.levels = 0
        self.owner = owner
        self._holds = _holds.setdefault(client, {})
        self._key = (path, owner)
        self.remember()

    def remember(self) -> None:
        """The owner is found to hold this, until it is given back or lost."""
        self._holds[self._key] = self
        self.place.lost.add_callback(self.forget)

    def leave(self) -> asyncio.Task[None] | None:
        """End one level; with the last one the place is given back."""
        self.levels -= 1
        assert self.levels >= 0, "a level ends once"
        if self.levels:
            return None
        self.forget()
        return self.place.abandon()

    def forget(self) -> None:
        """The owner does not hold this any more."""
        self.place.lost.remove_callback(self.forget)
        if self._holds.get(self._key) is self:
            del self._holds[self._key]


def find_hold(client: Operations, path: str, owner: object) -> Hold | None:
    """Return what an owner holds at a path; None if nothing, or if it has been lost."""
    return _holds.get(client, {}).get((path, owner))


def owner_or_task(owner: object) -> object:
    """Return the owner, by default the task that runs: the task itself, for a number may be used again."""
    return asyncio.current_task() if owner is None else owner


def owner_or_thread(owner: object) -> object:
    """Return the owner, by default the thread that runs."""
    return threading.current_thread() if owner is None else owner


class Level(Grant):
    """One level of a hold: a grant of its own, which ends when it is released or the place is lost."""

    def __init__(self, client: Operations, hold: Hold) -> None:
        place = hold.place
        super().__init__(client, place.path, place.guard[1], place.session_id, token=place.token)
        self._hold = hold
        hold.levels += 1
        place.lost.add_callback(self._place_lost)

    def _place_lost(self) -> None:
        self.lose(self._hold.place.lost.reason)

    def spend(self) -> None:
        """This level is over, but the place is not given back: something else is made of it."""
        self._is_released = True
        self._hold.place.lost.remove_callback(self._place_lost)

    def abandon(self) -> asyncio.Task[None] | None:
        """Give the level back without waiting. The last one gives the place back, in the background."""
        if self._is_released:
            return None
        self.spend()
        return self._hold.leave()
