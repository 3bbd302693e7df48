"""Places where a test lets a member die: between any two steps that the disk sees.

`COORDSVC_FAILPOINTS=log_written@3` kills the process (SIGKILL, to itself) when it comes to the point
`log_written` for the third time; several points are separated by commas, and without `@n` the first time
counts. The idea is etcd's (github.com/etcd-io/gofail). Without that variable a point costs one look at an
empty dictionary.

Rule of this file: a point does nothing but end the process; what a member does never depends on one.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "COORDSVC_FAILPOINTS"

POINTS = (
    # Making a data directory.
    "directory_begun",
    "directory_log_made",
    "directory_tree_made",
    "directory_pointer_made",
    "directory_made",
    "record_written",  # a small file, aside; not yet in its place
    "record_replaced",  # in its place; the directory is not synced
    # Every start: recovery.
    "recovery_begun",
    "recovery_log_opened",
    "recovery_tree_opened",
    "recovery_log_resetting",
    "recovery_log_reset",
    # The log. Behind `log_written` the write is durable, and no message that waits for it has left.
    "log_writing",
    "log_written",
    "log_marked",
    "log_adopting",
    # The tree.
    "tree_writing",
    "tree_written",
    # Trimming the log.
    "tree_syncing",
    "tree_synced",
    "trim_batch_written",
    "trim_done",
    # A snapshot: received, made durable, put in the tree's place; the log reset; the old tree removed.
    "snapshot_begun",
    "snapshot_chunk_taking",
    "snapshot_chunk_taken",
    "snapshot_finishing",
    "snapshot_finished",
    "snapshot_switching",
    "snapshot_switched",
    "snapshot_log_resetting",
    "snapshot_log_reset",
    "old_trees_removing",
    "old_trees_removed",
)


def reach(point: str) -> None:
    """Say that the process is at `point`. It may not come back."""
    if _armed:
        _count(point)


def armed_points(text: str) -> dict[str, int]:
    """Read the variable: how often each point is still to be reached.

    Raises:
        ValueError: It names a point that does not exist, or a strange number.
    """
    armed = {}
    for part in filter(None, text.split(",")):
        point, _, count = part.partition("@")
        if point not in POINTS or not (count or "1").isdecimal() or int(count or "1") < 1:
            raise ValueError(f"{VARIABLE}: {part!r} is not POINT or POINT@COUNT; points: {', '.join(POINTS)}")
        armed[point] = int(count or "1")
    return armed


def _count(point: str) -> None:
    assert point in POINTS, f"{point} is in the list of points"
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] == 0:
        os.write(2, f"failpoint {point} reached\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


_armed = armed_points(os.environ.get(VARIABLE, ""))
