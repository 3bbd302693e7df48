"""The election of the ZooKeeper textbooks, with znodes alone: no recipe, only the basic surface.

Every candidate makes an ephemeral sequential node; the lowest number leads; everybody else watches just
the node before its own. Run it several times, and end the one that leads:

    python examples/textbook_election.py NAME [ENDPOINTS]

In an application use `client.election(path)`: it adds a token that fences a former leader's writes, and
tells a leader that has lost its session.
"""

from __future__ import annotations

import signal
import sys
import threading

from coordclient import Client, Event, SessionExpiredError, State

ELECTION = "/textbook/election"


class Candidate:
    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.path = ""
        self.changed = threading.Event()

    def run(self) -> None:
        """Stand for election, again in every new session."""
        self.client.ensure_path(ELECTION)
        self.client.add_listener(self.session_changed)
        while True:
            try:
                self.path = self.client.create(
                    f"{ELECTION}/n_", self.name.encode(), ephemeral=True, sequential=True
                )
                print(f"{self.name} stands as {self.path}", flush=True)
                self.wait_for_my_turn()
            except SessionExpiredError:
                print(f"{self.name} lost its session", flush=True)

    def wait_for_my_turn(self) -> None:
        mine = self.path.rpartition("/")[2]
        while True:
            self.changed.clear()
            # By number, not by name: the names of candidates may begin differently.
            candidates = sorted(self.client.get_children(ELECTION), key=number)
            if mine not in candidates:
                return  # Our node went with its session.
            position = candidates.index(mine)
            if position == 0:
                print(f"{self.name} leads", flush=True)
                self.changed.wait()  # until the session is gone
                continue
            before = f"{ELECTION}/{candidates[position - 1]}"
            # If it went meanwhile, the list is read again; else we are woken when it goes.
            if self.client.exists(before, watch=self.predecessor_changed) is not None:
                print(f"{self.name} watches {before}", flush=True)
                self.changed.wait()

    def predecessor_changed(self, _: Event) -> None:
        self.changed.set()

    def session_changed(self, state: State) -> None:
        if state is not State.SUSPENDED:
            self.changed.set()


def number(name: str) -> int:
    return int(name.rpartition("_")[2])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Client(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7400", session_timeout=2.0) as client:
        Candidate(client, sys.argv[1]).run()
