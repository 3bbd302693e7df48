"""One run of the fault matrix: a cluster, three participants with all recipes, and one fault.

Rule of this file: where the fault is one of links, every participant reaches every member through one; the
run itself looks at the cluster directly, and only when nobody changes anything any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coordclient import AsyncClient
from coordclient.types import Event, Node
from coordsvc.testing.link import FaultyLink
from tests.checkers.recipe_history import Act, read_acts
from tests.processes.cluster import ClusterProcesses
from tests.processes.conditions import eventually
from tests.processes.ports import HOST, free_ports
from tests.processes.programs import Program
from tests.recipes.workloads.place import ROOT

PARTICIPANT = Path(__file__).with_name("participant.py")
SESSION_TIMEOUT_S = 2.0
SESSIONS_GONE_S = 10.0
PHASE_S = 60.0


@dataclass(slots=True)
class Evidence:
    """What is known after a run.

    Attributes:
        healed_s: When the fault was over, on the clock of the acts.
        events: Every change below the root, in the order of the transactions.
        nodes: What is there in the end, when everybody has stopped; and `left`, when all have gone.
    """

    acts: list[Act]
    healed_s: float
    killed: list[str]
    events: list[Event]
    nodes: dict[str, Node]
    left: dict[str, Node]

    def of(self, recipe: str) -> list[Act]:
        return [act for act in self.acts if act.recipe == recipe]

    def values(self, path: str) -> list[bytes]:
        """Every value that a node has had."""
        return [event.value for event in self.events if event.path == path and event.value]


@dataclass(slots=True)
class Stage:
    """What a fault can do harm to."""

    directory: Path
    cluster: ClusterProcesses
    links: list[FaultyLink]
    stack: AsyncExitStack
    participants: dict[str, Program] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)

    @property
    def victim(self) -> Program:
        return self.participants["victim"]

    def history_of(self, name: str) -> Path:
        return self.directory / f"{name}.acts"

    async def start(self, *names: str) -> None:
        endpoints = ",".join(link.address for link in self.links) or self.cluster.endpoints
        for name in names:
            arguments = (name, endpoints, str(SESSION_TIMEOUT_S), str(self.history_of(name)))
            program = Program(PARTICIPANT, *arguments)
            self.participants[name] = await self.stack.enter_async_context(program)
        for name in names:
            await self.participants[name].line("working", within_s=PHASE_S)

    async def kill(self, name: str) -> None:
        await self.participants.pop(name).kill()
        self.killed.append(name)

    async def stop(self) -> tuple[dict[str, Node], dict[str, Node]]:
        """Let everybody come to rest and go; return the nodes before and after they went."""
        async with AsyncClient(self.cluster.endpoints) as client:
            await self._next_phase("stopped")
            await self._next_phase("noted")
            nodes = await nodes_below(client, ROOT)
            await self._next_phase("finished")
            return nodes, await self._when_sessions_have_gone(client)

    async def _next_phase(self, until: str) -> None:
        """Tell every participant to go on, and wait until each says that it has."""
        for program in self.participants.values():
            program.terminate()
        for program in self.participants.values():
            await program.line(until, within_s=PHASE_S)

    def evidence(
        self, healed_s: float, nodes: dict[str, Node], left: dict[str, Node], events: list[Event]
    ) -> Evidence:
        acts = read_acts(sorted(self.directory.glob("*.acts")))
        return Evidence(acts, healed_s, self.killed, events, nodes, left)

    async def _when_sessions_have_gone(self, client: AsyncClient) -> dict[str, Node]:
        """Return what is left; ephemeral nodes of the killed may take until their sessions expire."""

        async def look() -> dict[str, Node]:
            return await nodes_below(client, ROOT)

        def is_quiet(nodes: dict[str, Node]) -> bool:
            return not any(node.stat.ephemeral_owner for node in nodes.values())

        with contextlib.suppress(AssertionError):  # What is left then is for the judges to say.
            return await eventually("no session is left", look, within_s=SESSIONS_GONE_S, until=is_quiet)
        return await look()


async def nodes_below(client: AsyncClient, path: str) -> dict[str, Node]:
    """Return every node below a path."""
    found: dict[str, Node] = {}
    for node in await client.get_children_nodes(path):
        found[node.path] = node
        if node.stat.num_children:
            found |= await nodes_below(client, node.path)
    return found


@asynccontextmanager
async def stage(directory: Path, *, has_links: bool) -> AsyncIterator[Stage]:
    """Start the cluster, the links in front of it if there are to be any, and the participants."""
    async with AsyncExitStack() as stack:
        cluster = ClusterProcesses(directory)
        links = []
        for member, port in zip(cluster, free_ports(3) if has_links else (), strict=has_links):
            link = FaultyLink(member.endpoint, f"{HOST}:{port}")
            links.append(await stack.enter_async_context(link))
            member.options += ("--advertise-client", link.address)
        await stack.enter_async_context(cluster)
        async with AsyncClient(cluster.endpoints) as client:
            await client.ensure_path(ROOT)
        place = Stage(directory, cluster, links, stack)
        await place.start("victim", "survivor-1", "survivor-2")
        yield place
