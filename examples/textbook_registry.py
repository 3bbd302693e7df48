"""The service registry of the ZooKeeper textbooks, with znodes alone: no recipe, only the basic surface.

An instance is an ephemeral node with its address as JSON. A consumer reads the list of children and asks
to be told of its next change; such a watch works once, so it is armed again with every read.

    python examples/textbook_registry.py offer NAME PORT [ENDPOINTS]
    python examples/textbook_registry.py follow NAME [ENDPOINTS]

In an application use `client.services`: it adds health checks, and registers again after a lost session.
"""

from __future__ import annotations

import json
import signal
import sys
import threading

from coordclient import Client, Event, NoNodeError

SERVICES = "/textbook/services"


def offer(client: Client, name: str, port: int) -> None:
    """Announce an instance for as long as this program lives."""
    client.ensure_path(f"{SERVICES}/{name}")
    instance = {"address": "127.0.0.1", "port": port}
    path = client.create(
        f"{SERVICES}/{name}/instance-", json.dumps(instance).encode(), ephemeral=True, sequential=True
    )
    print(f"registered {path}", flush=True)
    signal.pause()


class Follower:
    """Keeps a list of the instances of a service."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.directory = f"{SERVICES}/{name}"
        self.changed = threading.Event()

    def run(self) -> None:
        self.client.ensure_path(self.directory)
        while True:
            self.changed.clear()
            children = self.client.get_children(self.directory, watch=self.children_changed)
            ports = sorted(port for port in map(self.port_of, children) if port is not None)
            print(f"instances {','.join(map(str, ports)) or 'none'}", flush=True)
            self.changed.wait()

    def children_changed(self, _: Event) -> None:
        self.changed.set()

    def port_of(self, child: str) -> int | None:
        try:
            node = self.client.get(f"{self.directory}/{child}")
        except NoNodeError:
            return None  # It went since we read the list; the watch will say so, too.
        port = json.loads(node.value)["port"]
        assert isinstance(port, int)
        return port


def main(arguments: list[str]) -> None:
    role, name, *rest = arguments
    port = int(rest.pop(0)) if role == "offer" else 0
    with Client(rest[0] if rest else "127.0.0.1:7400", session_timeout=2.0) as client:
        if role == "offer":
            offer(client, name, port)
        else:
            Follower(client, name).run()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(sys.argv[1:])
