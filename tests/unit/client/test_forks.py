"""A real fork: what was made before it is refused in the child, and does not hang."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from coordclient import Client, ForkedClientError, forks

client = Client("127.0.0.1:1", connect_timeout=0.05)
try:
    client.connect()
except Exception:
    pass
lock = client.lock("/locks/a")
child = os.fork()
if child == 0:
    for use in (lambda: client.get("/a"), client.connect, lock.acquire):
        try:
            use()
        except ForkedClientError:
            continue
        os._exit(3)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_client_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
