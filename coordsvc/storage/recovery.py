"""Whether the log and the tree fit together, at start. Design section 7.

A tree may lag behind the log: the log replays the rest. It may lead it in one case only: it was received
as a snapshot, and a crash came between the swap of the tree and the reset of the log.

Rule of this file: that one case is completed; everything else that does not fit is refused.
"""

from __future__ import annotations

from coordsvc.raft.types import Index
from coordsvc.storage.data_directory import InstalledSnapshot
from coordsvc.storage.errors import damaged
from coordsvc.storage.failpoints import reach
from coordsvc.storage.log_store import LogStore


def recover_log(log: LogStore, applied: Index, installed: InstalledSnapshot) -> None:
    """Make `log` fit a tree that has applied everything up to `applied`.

    Args:
        log: Just opened.
        applied: The applied index among the tree's records; 0 in an empty tree.
        installed: `DataDirectory.installed`.

    Raises:
        CorruptDataError: The log or the tree has lost records.
    """
    if applied == installed.index > 0 and not _covers(log, installed):
        reach("recovery_log_resetting")
        log.reset_to(installed.index, installed.term)
        reach("recovery_log_reset")
        return
    if applied > log.last_index():
        raise damaged(
            log.path, f"it ends at entry {log.last_index()}, but the tree has applied entry {applied}"
        )
    if applied < log.first_index() - 1:
        raise damaged(
            log.path.parent,
            f"the tree has applied entry {applied}, but the log begins at entry {log.first_index()}",
        )


def _covers(log: LogStore, installed: InstalledSnapshot) -> bool:
    if not log.first_index() - 1 <= installed.index <= log.last_index():
        return False
    return log.term(installed.index) == installed.term
