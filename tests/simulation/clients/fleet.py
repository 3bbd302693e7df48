"""All the clients of one run: started together, calmed when the faults end, and judged at the end.

Rule of this file: `Simulation` in, violations out; the members' part of the history is given by whoever owns
the members.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.clients.application import Application
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

    @property
    def is_done(self) -> bool:
        """Whether every client has asked all that it wants to ask, and everything has ended."""
        return all(application.is_done for application in self.applications)

    @property
    def operation_count(self) -> int:
        return len(self.notebook.calls)

    def start(self) -> None:
        for application in self.applications:
            application.start()

    def calm(self) -> None:
        """The faults are over: from now on everything that clients ask for must come to its end."""
        for application in self.applications:
            application.calm()

    def unfinished(self) -> list[str]:
        """Say what has not come to its end, for the report of a run that is stuck."""
        return [application.explain() for application in self.applications if not application.is_done]
