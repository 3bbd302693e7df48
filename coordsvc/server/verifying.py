"""Verifying a large tree while the member serves. Design section 7, decision 0014.

A small tree is verified before its member serves. A large one would keep the member away for seconds, so it
is pinned as it was found, and read in short steps beside the work: whatever a client reads meanwhile has its
checksum checked as always, and what only the whole tree can show (its digest, its counts) ends the member a
little later.

Rule of this file: the steps take a small share of the time; a tree that is not what it should be ends the
member, whatever it has served by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordsvc.server.logs import log
from coordsvc.server.pacing import at_ease, take_steps
from coordsvc.storage.errors import SnapshotClosed
from coordsvc.storage.tree_store import TreeSnapshot

if TYPE_CHECKING:
    from coordsvc.server.member import Member

VERIFIED_BEFORE_SERVING_NODES = 50_000  # a quarter of a second
_REST = 4.0  # after each step, as a multiple of what it took


@dataclass(slots=True)
class Verification:
    """What is left to verify of a tree: `steps` read `snapshot`, and raise if it cannot be right."""

    snapshot: TreeSnapshot
    steps: Iterator[None]


class TreeVerifier:
    """Carries out what opening the tree has left to verify, if anything."""

    def __init__(self, member: Member, verification: Verification | None) -> None:
        self._member = member
        self._verification = verification

    def old_tree_gone(self) -> None:
        """The tree was replaced by one that is verified: reading ends before its database closes."""
        if self._verification is not None:
            self._verification.snapshot.close()
            self._verification = None

    async def run(self) -> None:
        """Verify to the end. Raises CorruptStateError or StorageError if the tree cannot be trusted."""
        began_s = time.monotonic()
        while (verification := self._verification) is not None:
            try:
                is_done = await at_ease(
                    self._member.background, partial(take_steps, verification.steps), _REST
                )
            except SnapshotClosed:
                return
            if is_done and self._verification is not None:
                self._end(time.monotonic() - began_s)
                return

    def _end(self, seconds: float) -> None:
        self.old_tree_gone()
        log(logging.INFO, "tree_verified", seconds=round(seconds, 1))
