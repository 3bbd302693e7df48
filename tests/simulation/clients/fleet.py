"""All the clients of one run: started together, calmed when the faults end, and judged at the end.

Rule of this file: it holds the clients; what is right and wrong stands in `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.checkers.history import History
from tests.simulation.clients.application import Application
from tests.simulation.clients.crowd import Crowd
from tests.simulation.clients.fenced_resource import FencedResource
from tests.simulation.clients.lock_application import ELECTION, LOCK, LockApplication, LockLife
from tests.simulation.clients.notebook import Notebook
from tests.simulation.clients.workload import Workload
from tests.simulation.world import World


class Fleet:
    """The clients of a run. `members` are the names of those that clients are configured with."""

    def __init__(self, world: World, workload: Workload, members: Sequence[str]) -> None:
        self.world = world
        self.workload = workload
        self.notebook = Notebook()
        self.applications = [
            Application(world, workload, f"client{number}", members, self.notebook)
            for number in range(workload.clients)
        ]
        self.crowd = Crowd(world, members, self.notebook)
        resources = {path: FencedResource(world, path, self.notebook) for path in (LOCK, ELECTION)}
        self.contenders = [
            LockApplication(world, workload, f"locker{number}", members, self.notebook, resources)
            for number in range(workload.lock_clients)
        ]

    @property
    def is_done(self) -> bool:
        """Whether every client has asked all that it wants to ask, and everything has ended."""
        if self.crowd.pending_count:
            return False
        for application in self.applications:
            if not application.is_done:
                return False
        return all(contender.is_done for contender in self.contenders)

    @property
    def operation_count(self) -> int:
        return len(self.notebook.calls) + len(self.notebook.locks)

    def start(self) -> None:
        for application in self.applications:
            application.start()
        for contender in self.contenders:
            contender.start()

    def calm(self) -> None:
        """The faults are over: from now on everything that clients ask for must come to its end."""
        for application in self.applications:
            application.calm()
        self.crowd.calm()
        for contender in self.contenders:
            contender.calm()

    def unfinished(self) -> list[str]:
        """Say what has not come to its end, for the report of a run that is stuck."""
        if self.crowd.pending_count:
            return [f"{self.crowd.pending_count} calls without a session"]
        stuck = [application.explain() for application in self.applications if not application.is_done]
        return stuck + [contender.explain() for contender in self.contenders if not contender.is_done]

    def lock_lives(self) -> list[LockLife]:
        return [life for contender in self.contenders for life in contender.lives]

    def history(self) -> History:
        """Return what the clients noted. Once, at the end; the members' part is still to be filled in."""
        for application in self.applications:
            application.life.note_renewal()
        for life in self.lock_lives():
            life.stop_recording()
        history = self.notebook.history()
        history.facts.has_pauses = bool(self.workload.pauses)
        history.facts.clock_error = 0.02
        return history

    def dispose(self) -> None:
        """Let go of the programs: none is left half-way when the world is gone."""
        for life in self.lock_lives():
            if not life.loop.is_dead:
                life.loop.kill()
