"""One chaos run: start everything, disturb it, heal it, ask everybody, and let the checkers judge.

Rule of this file: whatever was recorded stays in the run's directory; nothing is judged that is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path

from coordclient import AsyncClient
from coordclient.errors import NoNodeError
from coordclient.types import Event
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.types import Stat
from tests.chaos.cluster import GatedCluster
from tests.chaos.judge import HISTORIES, judge, read_run
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import ALL_FAULTS, Timing, draw_plan
from tests.chaos.recorder import Recorder, keep_unfinished, now_ns
from tests.chaos.recording_client import RecordingClient
from tests.checkers.history import Facts, History, MemberDigest, Violation
from tests.checkers.history_files import write_record
from tests.processes.programs import Program

CLIENT_PROGRAM = Path(__file__).with_name("client_process.py")
CONVERGES_WITHIN_S = 120.0
CLIENTS_END_WITHIN_S = 60.0
AFTER_HEALING_S = 3.0  # all clients go on for so long
FINAL_READS = 200
SNAPSHOT_LOGGED = " snapshot_installed "
# One process each.
CLIENT_ROLES = (
    ("writer", "writer", "reader", "counter"),
    ("writer", "reader", "watcher"),
    ("holder", "leader", "counter"),
    ("holder", "leader", "watcher"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    directory: Path
    seconds: float
    members: int = 3
    seed: int = 1
    faults: tuple[str, ...] = ALL_FAULTS
    timing: Timing = field(default_factory=Timing)
    session_timeout_s: float = 4.0
    pace_s: float = 0.04


@dataclass(slots=True)
class Report:
    """What happened.

    Attributes:
        suspensions: How often a client lost its connection and noticed.
        sessions: How many sessions were opened; more than clients means that some were lost.
        terms: How many elections were won or tried.
        snapshots: How many a member received and took for its tree.
    """

    violations: list[Violation] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    sessions: int = 0
    suspensions: int = 0
    terms: int = 0
    snapshots: int = 0
    transactions: int = 0
    events: int = 0
    judged_in_s: float = 0.0
    history: History = field(default_factory=History)


class Run:
    def __init__(self, settings: Settings, tell: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.report = Report()
        self._tell = tell
        self._histories = settings.directory / HISTORIES
        self._fences = settings.directory / "fenced"
        self._roles: dict[Program, tuple[str, ...]] = {}
        self._stack: AsyncExitStack | None = None
        self._cluster: GatedCluster | None = None

    async def run(self) -> Report:
        """Carry the run out and judge it.

        Raises:
            AssertionError: Something did not come back after the healing, or ended by itself.
        """
        settings = self.settings
        self._histories.mkdir(parents=True)
        self._fences.mkdir()
        plan = draw_plan(settings.seed, settings.seconds, settings.faults, settings.timing)
        for lane in plan:
            self._tell("\n".join(f"  planned {fault}" for fault in lane))
        async with GatedCluster(
            settings.directory, members=settings.members, seconds=settings.seconds
        ) as cluster:
            first_term = max(status.term for status in await cluster.statuses())
            async with AsyncExitStack() as stack:
                self._stack, self._cluster = stack, cluster
                programs = [await self._start(roles) for roles in CLIENT_ROLES]
                for program in programs:
                    await program.line("ready", within_s=60.0)
                nemesis = Nemesis(cluster, programs, self._start_again, self._tell)
                self.report.faults = nemesis.counts
                await nemesis.run(plan)
                cluster.heal_links()
                healed_ns = now_ns()
                await cluster.wait_until_leader(within_s=CONVERGES_WITHIN_S)
                await asyncio.sleep(AFTER_HEALING_S)
                await self._end_clients(programs)
            await self._ask_everybody(cluster, healed_ns)
            last_term = max(status.term for status in await cluster.statuses())
            self.report.terms = last_term - first_term
            members = [*cluster, *cluster.removed]
            self.report.snapshots = sum(member.log_text().count(SNAPSHOT_LOGGED) for member in members)
        self._judge()
        return self.report

    async def _start(self, roles: tuple[str, ...]) -> Program:
        """Start a process of clients, which runs until the end of the run."""
        settings = self.settings
        assert self._stack is not None
        assert self._cluster is not None
        program = Program(
            CLIENT_PROGRAM,
            f"p{len(self._roles) + 1}",
            self._cluster.public_endpoints,
            str(self._histories),
            str(self._fences),
            str(settings.seed),
            str(settings.session_timeout_s),
            str(settings.pace_s),
            *roles,
        )
        self._roles[program] = roles
        return await self._stack.enter_async_context(program)

    async def _start_again(self, killed: Program) -> Program:
        """Start another process of clients in place of one that was killed."""
        name = killed.name.split()[1]
        keep_unfinished(self._histories / f"{name}.jsonl")
        return await self._start(self._roles[killed])

    async def _end_clients(self, programs: list[Program]) -> None:
        """Every request under way ends now: the cluster is whole."""
        for program in programs:
            await program.line("ready", within_s=CLIENTS_END_WITHIN_S)  # It may have come late.
            program.terminate()
        for program in programs:
            said = await program.line("done", within_s=CLIENTS_END_WITHIN_S)
            _, operations, sessions, suspensions = said.split()
            self.report.operations += int(operations)
            self.report.sessions += int(sessions)
            self.report.suspensions += int(suspensions)

    # -----------------------------------------------------------------------------------------
    # The end

    async def _ask_everybody(self, cluster: GatedCluster, healed_ns: int) -> None:
        """Read back what every member holds, and then all that was committed up to there."""
        with (self._histories / "final.jsonl").open("w", encoding="utf-8") as file:
            recorder = Recorder("final", file)
            async with RecordingClient(recorder, cluster.endpoints, request_timeout=30.0) as client:
                for path in await self._paths(client):
                    await client.exists(path)
                await cluster.wait_until_equal(within_s=CONVERGES_WITHIN_S)
                statuses = await cluster.statuses()
                for status in statuses:
                    digest = MemberDigest(status.member, status.applied_index, status.zxid, status.digest)
                    write_record(file, digest)
            recorder.finish()
            # Unrecorded: what a record of this very reading held beyond its end, nothing could judge.
            async with AsyncClient(cluster.endpoints, request_timeout=30.0) as reader:
                async for event in reader.history("/", since=0):
                    write_record(file, _change(event))
                    self.report.transactions = event.zxid
            oldest = max(status.oldest_history_zxid for status in statuses)
            name = f"chaos seed {self.settings.seed}"
            write_record(file, Facts(name, healed_ns, now_ns(), oldest))

    async def _paths(self, client: RecordingClient) -> list[str]:
        """Return some of the nodes that are there at the end, with the counters."""
        tops = [f"/{name}" for name in await client.get_children("/")]
        found = [top for top in tops if top.startswith("/counter-")]
        for top in tops[-FINAL_READS // 10 :]:
            found.append(top)
            with contextlib.suppress(NoNodeError):  # Containers go when they are empty.
                found += [f"{top}/{name}" for name in await client.get_children(top)]
        return found[:FINAL_READS]

    def _judge(self) -> None:
        began = time.monotonic()
        history = read_run(self.settings.directory)
        self.report.history = history
        self.report.violations = judge(history)
        self.report.events = sum(len(watch.events) for watch in history.watches)
        self.report.judged_in_s = time.monotonic() - began


def _change(event: Event) -> Change:
    assert event.stat is not None
    stat = Stat(*(getattr(event.stat, part.name) for part in fields(Stat)))
    return Change(ChangeType(event.type), event.path, event.zxid, event.value, stat)
