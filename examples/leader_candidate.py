"""One of several candidates for leader: only one of them works at a time, and its writes are fenced.

Run it twice, and kill the one that leads:  python examples/leader_candidate.py NAME [ENDPOINTS]
"""

from __future__ import annotations

import signal
import sys
import time

from coordclient import Client, LeaderTerm
from coordclient.errors import GuardFailedError, LockLostError, SessionExpiredError


def run(name: str, endpoints: str) -> None:
    with Client(endpoints, session_timeout=2.0) as client:
        client.ensure_path("/demo/work")
        election = client.election("/demo/election", value=name.encode())
        while True:
            print("waiting", flush=True)
            try:
                with election.lead() as term:
                    print(f"elected token={term.token}", flush=True)
                    work(client, name, term)
            except (GuardFailedError, LockLostError, SessionExpiredError):
                print("deposed", flush=True)


def work(client: Client, name: str, term: LeaderTerm) -> None:
    """Do what only the leader may do. `guard=term` makes the service refuse it once another one leads."""
    count = 0
    while True:
        count += 1
        client.set("/demo/work", f"{name} {term.token} {count}".encode(), guard=term)
        if count == 1:
            print(f"working token={term.token}", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # leave the `with` blocks: resign, close the session
    run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7400")
