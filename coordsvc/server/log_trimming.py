"""Trimming the log behind a synced tree. Design section 7.

Rule of this file: an entry goes only when the tree that holds its effect is on disk; some entries stay for
followers that are a little behind, and those that a snapshot under way needs stay too. The tree is synced
beside the writes to the log, and the entries go in pieces between them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordsvc.server.member import Member


class LogTrimmer:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._under_way = False

    def consider(self) -> None:
        """Start a trim if the log has grown enough since the last one."""
        member = self._member
        config = member.config
        log = member.opened.log
        length = log.last_index() - log.first_index() + 1
        if self._under_way or (
            length <= config.log_trim_entries and log.bytes_since_trim <= config.log_trim_bytes
        ):
            return
        applied = member.replica.state.machine.applied_index
        # What stays is in memory: reading it for a follower does not hold the event loop.
        keep_from = max(log.last_index() - config.log_keep_entries, log.first_index_in_memory - 1)
        index = member.sender.trimmable_index(min(applied, keep_from))
        if index < log.first_index():
            return
        self._under_way = True
        member.on_background_thread(member.opened.tree.sync, partial(self._trim, index))

    def _trim(self, index: int, _: None = None) -> None:
        """Trim a piece, so that whoever waits for a write to the log does not wait for all of the trim."""
        self._member.on_storage_thread(
            partial(self._member.opened.log.trim_some, index), partial(self._trimmed, index)
        )

    def _trimmed(self, index: int, is_done: bool) -> None:
        if not is_done:
            self._trim(index)
            return
        self._under_way = False
        self._member.opened.log.adopt_trim(index)
        self._member.replica.state.raft.log_trimmed()
