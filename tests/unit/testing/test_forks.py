"""A test that forks beside a server: the child is told at once to be spawned; it does not crash."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
from coordclient import Client, ForkedClientError
from coordsvc.testing import Server

with Server() as server, Client(server.endpoints) as client:
    if os.fork() == 0:
        try:
            Client(server.endpoints).connect()
        except ForkedClientError as error:
            os._exit(0 if "spawn" in str(error) else 3)
        os._exit(4)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    client.sync()
os._exit(code)
"""


def test_a_child_that_is_forked_beside_a_server_is_told_to_be_spawned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
