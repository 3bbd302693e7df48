"""A program that appends to the log of a data directory and says what is durable. For tests that kill it.

Usage: writer.py DIRECTORY BATCH_BYTES [FILE_BYTES_MAX]

Rule of this file: it prints an index only after the synced write returned. On the first storage failure it
prints the error, tries once more, prints that, and ends.
"""

from __future__ import annotations

import resource
import signal
import sys

from coordsvc.raft.types import Entry, HardState
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.errors import StorageError
from coordsvc.storage.log_store import LogStore


def append(log: LogStore, index: int, batch_bytes: int) -> None:
    entry = Entry(index, 1, b"%d " % index + b"x" * batch_bytes)
    hard_state = HardState(1, "a", index - 1)
    log.write(hard_state, [entry], None, sync=True)
    log.adopt(hard_state, [entry], None)


def main() -> None:
    directory = DataDirectory.open(sys.argv[1], "cluster", "a")
    log, tree = directory.open_log(), directory.open_tree()
    if len(sys.argv) > 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        while True:
            index = log.last_index() + 1
            append(log, index, int(sys.argv[2]))
            tree.write([(b"applied", b"%d" % index)], [])
            print("durable", index, flush=True)
    except StorageError as error:
        print("failed", type(error).__name__, error, flush=True)
    try:
        append(log, log.last_index() + 1, 1)
    except StorageError as error:
        print("again", type(error).__name__, error, flush=True)


if __name__ == "__main__":
    main()
