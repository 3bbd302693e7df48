"""Several writers share one file: a lock lets one at a time append, and its token keeps a late one out.

Run it twice:  python examples/ledger_writer.py NAME FILE [ENDPOINTS]
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from coordclient import Client, LockHandle
from coordclient.errors import GuardFailedError, LockLostError, NodeExistsError, SessionExpiredError

HEAD = "/demo/ledger/head"  # number of the last entry that counts
ENTRY = re.compile(rb"begin (\d+) token (\d+) by \S+\n  what happened\nend \1\n")
TAIL_BYTES = 4096


def run(name: str, path: Path, endpoints: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # an entry that was begun is finished
    path.touch()
    with Client(endpoints, session_timeout=2.0) as client, path.open("rb+") as file:
        with contextlib.suppress(NodeExistsError):  # the other writer may have been here first
            client.create(HEAD, b"0", parents=True)
        lock = client.lock("/demo/ledger/lock")
        while not stop.is_set():
            try:
                with lock as held:
                    print(f"holding token={held.token}", flush=True)
                    write_next_entry(client, held, file, name)
            except (GuardFailedError, LockLostError, SessionExpiredError):
                print("lock lost", flush=True)


def write_next_entry(client: Client, held: LockHandle, file: BinaryIO, name: str) -> None:
    committed = int(client.get(HEAD).value)
    number, newest_token = last_entry(file)
    if newest_token > held.token:
        raise LockLostError("the file has seen a newer holder", token=held.token)
    if number == committed:
        number += 1
        append(file, f"begin {number} token {held.token} by {name}\n", "  what happened\n", f"end {number}\n")
    # Else a holder wrote an entry and died before it could count it: count it now, and it is not lost.
    # The guard makes the service refuse this once the lock is gone, however late it arrives.
    client.set(HEAD, str(number).encode(), guard=held)
    print(f"wrote number={number} token={held.token}", flush=True)


def last_entry(file: BinaryIO) -> tuple[int, int]:
    """Return number and token of the last entry; what a killed writer left half done is cut off."""
    start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
    file.seek(start)
    entries = list(ENTRY.finditer(file.read()))
    file.truncate(start + (entries[-1].end() if entries else 0))
    return (int(entries[-1][1]), int(entries[-1][2])) if entries else (0, 0)


def append(file: BinaryIO, *lines: str) -> None:
    """Write line by line, slowly, so that two writers at once would show."""
    file.seek(0, os.SEEK_END)
    for line in lines:
        file.write(line.encode())
        file.flush()
        time.sleep(0.005)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1:7400")
