"""One run: a seed's plan carried out in two phases, safety and then liveness, and judged.

In the safety phase anything of the plan may fail. Then a random core of members that contains a quorum is
healed, the others stay dead for good, and within a bounded time everything must come to its end (L1 to L7).

Rule of this file: whatever is found wrong leaves `run` as a `Violation` in its result; anything else that is
raised is a mistake of the simulator, or an assertion of the product, which is a violation too.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from coordsvc.statemachine.errors import CorruptStateError
from tests.checkers.history import Facts, History, MemberDigest
from tests.simulation.client_links import ClientNetwork
from tests.simulation.clients.fleet import Fleet
from tests.simulation.clients.workload import Workload, draw_workload
from tests.simulation.clocks import MemberClock
from tests.simulation.desertion import desert
from tests.simulation.drawing_plans import draw_plan
from tests.simulation.faults import Faults, FaultyWeather
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.judgement import check_answers, check_closes, check_stores, judge
from tests.simulation.members import SimulatedMember
from tests.simulation.network import PeerNetwork
from tests.simulation.operators import Operators
from tests.simulation.plan import Plan
from tests.simulation.probes import Probes
from tests.simulation.world import MILLISECOND, SECOND, TraceEvent, World

_NAMED = re.compile(r"^([RGZSCWKL]\d+)\b:? ?(.*)", re.DOTALL)
_LOOK_NS = 100 * MILLISECOND
_LIVENESS_NS_MAX = 150 * SECOND
_CATCHING_UP_NS_MAX = 75 * SECOND  # a snapshot stream whose last word is lost is given up after 30 s


@dataclass(slots=True)
class Result:
    """What one run came to. `violation` is None if everything held."""

    plan: Plan
    violation: Violation | None
    digest: str
    operations: int
    steps: int
    simulated_ns: int
    faults: dict[str, int]
    probes: dict[str, int]
    timeline: list[TraceEvent] = field(default_factory=list)


class Simulation:
    """The members, their network, their clients, and what befalls them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = world = World(plan.seed)
        self.probes = Probes()
        self.invariants = Invariants(self.probes)
        self.invariants.ledger.clock = lambda: world.now_ns
        self.network = PeerNetwork(world, plan.network)
        self.members: dict[str, SimulatedMember] = {}
        for name in plan.voters() + plan.learners():
            self._add(name)
        everybody = tuple(self.members)
        self.weather = FaultyWeather(world, plan)
        self.clients = ClientNetwork(world, self.members, self.weather)
        self.clients.frame_items_max = plan.cluster.frame_items_max
        world.gateway = self.clients
        self.fleet = Fleet(world, Workload(**plan.workload), everybody)
        self.operators = Operators(world, self.members, self._add)
        for member in self.members.values():
            member.on_settled = self.operators.settled
        self.faults = Faults(
            world,
            plan,
            self.members,
            self.network,
            self.clients,
            self.weather,
            self.operators,
            self.fleet.crowd,
        )
        self.healed_ns: int | None = None
        self._finished_ns: int | None = None
        self._core: list[SimulatedMember] = []

    def _add(self, name: str) -> SimulatedMember:
        world, ppm = self.world, self.plan.clock.drift_ppm
        drift = world.draw_below(2 * ppm + 1, "drift", name) - ppm
        clock = MemberClock(world, 1 + drift / 1_000_000, world.draw_below(10 * SECOND, "offset", name))
        member = SimulatedMember(
            world, self.plan, self.network, name, clock, self.invariants, self.invariants.ledger
        )
        self.members[name] = member
        member.on_change = lambda changing: self.faults.configuration_proposed(changing)
        self.network.add(member)
        return member

    # -----------------------------------------------------------------------------------------
    # Phases

    def go(self) -> None:
        """Both phases, and the judgement. Raises whatever is wrong."""
        for member in self.members.values():
            member.start()
        self.faults.schedule()
        self.fleet.start()
        self.world.run_until(self.world.now_ns + self.plan.safety_ms * MILLISECOND)
        self._core = self.heal()
        self._live()
        self._finished_ns = self.world.now_ns
        desert(self)
        check_answers(self.fleet.notebook.calls, self.invariants.ledger)
        check_closes(self.fleet, self.invariants.ledger)
        judge(self.fleet, self.history(), self.probes)

    def heal(self) -> list[SimulatedMember]:
        """Choose the core, bury the rest, and let no fault last."""
        self.faults.end()
        # What is committed counts first, also where a crash has taken back that it was applied.
        groups = list(dict.fromkeys([*self.invariants.committed_groups(), *self.operators.halves()]))
        names = self._choose_core(groups)
        core = [member for name, member in self.members.items() if name in names]
        for name, member in self.members.items():
            if name not in names:
                member.is_retired = True
                member.crash(loses_power=True, is_told=False)
        for member in core:
            member.resume()
            if not member.is_up:
                member.start()
        self.world.trace("world", "healed", *sorted(names))
        for group in self.invariants.committed_groups() or groups[:1]:
            self.invariants.check_committed_is_somewhere(self.members, group)
        self.healed_ns = self.world.now_ns
        self.fleet.calm()
        self.network.calm()
        self.clients.led_to = self._successor_of
        return core

    def _successor_of(self, name: str) -> str:
        """Somebody points the address of a member that is gone for good to one that is there."""
        core = self.core()
        if not self.members[name].is_retired or not core:
            return name
        return core[self.world.draw_below(len(core), "successor", name)].name

    def _choose_core(self, groups: list[tuple[str, ...]]) -> dict[str, None]:
        """A random majority of every group of voters that may be asked, and all who only learn."""
        able = [name for name, member in self.members.items() if not member.is_retired and member.process()]
        order = sorted(able, key=lambda name: self.world.draw("core", name))
        extra = self.world.draw_below(3, "core size")
        names: dict[str, None] = {}
        for group in groups:
            needed = len(group) // 2 + 1
            here = [name for name in order if name in group]
            if len(here) < needed:
                assert group != groups[0], f"the simulator has buried too many of {group}"
                continue  # An attempt at a change that can never be committed.
            chosen = [name for name in here if name in names]
            for name in here:
                if len(chosen) >= needed + (extra if group == groups[0] else 0):
                    break
                if name not in names:
                    chosen.append(name)
                    names[name] = None
        voters = {name for group in groups for name in group}
        names.update(dict.fromkeys(name for name in able if name not in voters))
        return names

    def agree(self) -> None:
        """Let pass what time the core needs to be of one mind, with a leader."""
        self._within(self._electing_ns(), "L1", lambda: _leader_of(self.core()) is not None, self._explain)
        self._within(_CATCHING_UP_NS_MAX, "L2", lambda: _agree(self.core()), self._explain)

    def _electing_ns(self) -> int:
        """How long it may take to elect a leader.

        Without pre-vote one that cannot win, for its old log, raises the term at each timeout, and only
        chance lets another be ahead of it: a split vote each time.
        """
        cluster = self.plan.cluster
        election_ns = 2 * cluster.election_ticks * cluster.tick_ms * MILLISECOND
        patience_ns = 2 * self.plan.network.stall_timeout_ms * MILLISECOND + 3 * SECOND
        return (10 if cluster.pre_vote else 50) * election_ns + patience_ns

    def core(self) -> list[SimulatedMember]:
        """The members that must go on: those chosen, unless the cluster has removed them since."""
        return [member for member in self._core if not member.is_retired]

    def _live(self) -> None:
        self._within(self._electing_ns(), "L1", lambda: _leader_of(self.core()) is not None, self._explain)
        committed = self.invariants.commit
        self._within(_CATCHING_UP_NS_MAX, "L6", lambda: _have_applied(self.core(), committed), self._explain)
        self._within(_LIVENESS_NS_MAX, "L3", lambda: self.fleet.is_done, self._explain_clients)
        self._within(self._longest_timeout_ns() + 10 * SECOND, "L4", self._dead_are_gone, self._explain_dead)
        self._within(_CATCHING_UP_NS_MAX, "L2", lambda: _agree(self.core()), self._explain)
        self._within(10 * SECOND, "L5", lambda: _are_idle(self.core()), self._explain)
        check_stores(self.core())

    def _longest_timeout_ns(self) -> int:
        """How long a session can live on without its client, at most, by the slowest clock."""
        timeouts = [session.timeout_ms for session in self.fleet.notebook.sessions]
        return int(max(timeouts, default=0) * MILLISECOND * (1 + 2e-6 * self.plan.clock.drift_ppm))

    def _dead(self) -> list[int]:
        """The sessions of dead clients that are still open, as the leader sees it."""
        leader = _leader_of(self.core())
        sessions = self.fleet.notebook.sessions
        stopped = [session.session for session in sessions if session.stopped_ns is not None]
        return [one for one in stopped if leader is None or one in leader.machine.sessions]

    def _dead_are_gone(self) -> bool:
        return not self._dead()

    def _explain_dead(self) -> str:
        return f"sessions {self._dead()} of dead clients are still open; {self._explain()}"

    def _within(
        self, time_ns: int, invariant: str, is_reached: Callable[[], bool], explain: Callable[[], str]
    ) -> None:
        """Let time pass until it is so, or too late."""
        deadline_ns = self.world.now_ns + time_ns
        while not is_reached():
            if self.world.now_ns >= deadline_ns:
                raise Violation(invariant, f"not within {time_ns // SECOND} s: {explain()}")
            self.world.run_until(min(deadline_ns, self.world.now_ns + _LOOK_NS))

    def _explain(self) -> str:
        return "; ".join(f"{member.name}: {member.replica.state.raft!r}" for member in self.core())

    def _explain_clients(self) -> str:
        return "clients still wait: " + "; ".join(str(what) for what in self.fleet.unfinished())

    # -----------------------------------------------------------------------------------------
    # Evidence

    def history(self) -> History:
        """Everything that the checkers judge."""
        ledger = self.invariants.ledger
        history = self.fleet.history()
        history.committed = ledger.changes
        history.session_ends = ledger.session_ends
        for member in self.core():
            machine = member.machine
            history.digests.append(
                MemberDigest(member.name, machine.applied_index, machine.zxid, machine.digest)
            )
        history.facts = Facts(
            name=f"seed {self.plan.seed}",
            # From when on there was a leader, who gave every session a full timeout.
            healed_ns=None if self.healed_ns is None else max(self.healed_ns, self.invariants.elected_ns),
            finished_ns=self._finished_ns,
            oldest_zxid=ledger.oldest_history_zxid,
            clock_error=self.plan.clock.drift_ppm / 1_000_000 + history.facts.clock_error,
            has_pauses=history.facts.has_pauses,
        )
        return history


def _leader_of(core: list[SimulatedMember]) -> SimulatedMember | None:
    """The leader, if everybody of the core follows it."""
    leaders = {member.replica.state.raft.leader for member in core if member.is_up}
    if len(leaders) != 1 or None in leaders:
        return None
    for member in core:
        if member.is_up and member.replica.state.raft.is_leader:
            return member
    return None


def _have_applied(core: list[SimulatedMember], index: int) -> bool:
    """Whether nobody lags behind what was committed then; whose log is trimmed away needs a snapshot."""
    return all(member.is_up and member.machine.applied_index >= index for member in core)


def _agree(core: list[SimulatedMember]) -> bool:
    if not all(member.is_up for member in core) or _leader_of(core) is None:
        return False
    ends = {(member.machine.applied_index, member.replica.state.raft.last_index) for member in core}
    return len(ends) == 1


def _are_idle(core: list[SimulatedMember]) -> bool:
    return not any(member.replica.has_work for member in core)


def plan_of(seed: int) -> Plan:
    """Draw everything about the run of a seed."""
    plan = draw_plan(seed)
    world = World(seed)
    workload = draw_workload(world)
    if world.chance(0.65, "workload lasts"):
        _stretch(workload, plan.safety_ms * (50 + world.draw_below(60, "workload lasts for")) // 100)
    if workload.lock_clients:  # A lock needs watches, and a program that contends for two needs several.
        plan.cluster.watches_per_session_max = max(20, plan.cluster.watches_per_session_max)
    plan.workload = {name: getattr(workload, name) for name in Workload.__slots__}
    return plan


def _stretch(workload: Workload, lasts_ms: int) -> None:
    """Have the clients be there as long as the faults."""
    bursts = max(3, 2 * workload.operations // (workload.burst_max + 1))
    workload.think_ns = max(workload.think_ns, lasts_ms * MILLISECOND // bursts)


def run(
    plan: Plan,
    sink: Callable[[TraceEvent], None] | None = None,
    prepare: Callable[[Simulation], None] | None = None,
) -> Result:
    """Run a plan to its end, or to the first violation. `prepare` may put in more than the plan says."""
    simulation = Simulation(plan)
    simulation.world.sink = sink
    if prepare is not None:
        prepare(simulation)
    violation: Violation | None = None
    try:
        simulation.go()
    except Violation as found:
        violation = found
    except (AssertionError, CorruptStateError) as error:
        violation = _named(error)
    except Exception as error:  # noqa: BLE001 - whatever a member raises would have ended it: a finding
        violation = Violation("CRASH", repr(error), traceback.format_exc().splitlines())
    finally:
        simulation.fleet.dispose()
    world = simulation.world
    faults = simulation.faults.counts | simulation.operators.counts
    for name, count in simulation.network.counts.items():
        faults[name] = faults.get(name, 0) + count
    return Result(
        plan,
        violation,
        world.trace_digest(),
        simulation.fleet.operation_count,
        world.steps,
        world.now_ns,
        faults,
        simulation.probes.counts,
        sorted(event for events in world.last_events.values() for event in events) if violation else [],
    )


def _named(error: Exception) -> Violation:
    """Make a violation out of an assertion: its message begins with the invariant's name, if it has one."""
    details = traceback.format_exc().splitlines()
    match = _NAMED.match(str(error))
    if match is None:
        return Violation("ASSERT", str(error), details)
    return Violation(match[1], match[2], details)
