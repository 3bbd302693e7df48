"""Trimming the log behind a synced tree. Design section 7.

Rule of this file: an entry goes only when the tree that holds its effect is on disk; some entries stay for
followers that are a little behind, and those that a snapshot under way needs stay too.
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
        index = min(applied, log.last_index() - config.log_keep_entries, member.sender.oldest_index(applied))
        if index < log.first_index():
            return
        self._under_way = True
        tree = member.opened.tree

        def work() -> None:
            tree.sync()
            log.trim(index)

        member.on_storage_thread(work, partial(self._trimmed, index))

    def _trimmed(self, index: int) -> None:
        self._under_way = False
        self._member.opened.log.adopt_trim(index)
        self._member.replica.state.raft.log_trimmed()
