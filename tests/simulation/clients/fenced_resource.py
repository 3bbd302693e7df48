"""Something outside that lock holders write to, and that refuses tokens smaller than the largest it has seen.

Rule of this file: a write travels, and may arrive long after its sender has lost the lock.
"""

from __future__ import annotations

from tests.checkers.history import FencedWrite
from tests.simulation.clients.notebook import Notebook
from tests.simulation.world import MILLISECOND, World


class FencedResource:
    """One resource; it keeps no time."""

    def __init__(self, world: World, name: str, notebook: Notebook) -> None:
        self.name = name
        self._world = world
        self._notebook = notebook
        self._largest_token = 0
        self._sent = 0

    def send(self, client: str, token: int) -> None:
        """Send a write; it arrives some time later."""
        self._sent += 1
        delay_ns = self._world.draw_log(1, 500 * MILLISECOND, "fenced write", self.name, self._sent)
        self._world.at(delay_ns, lambda: self._arrived(client, token))

    def _arrived(self, client: str, token: int) -> None:
        is_accepted = token >= self._largest_token
        self._largest_token = max(self._largest_token, token)
        writes = self._notebook.fenced_writes
        order = len(writes) + 1
        writes.append(FencedWrite(self.name, order, client, token, is_accepted, self._world.now_ns))
        self._world.trace(self.name, "write", client, token, is_accepted)
