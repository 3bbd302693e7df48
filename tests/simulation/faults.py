"""The faults of a plan, carried out: each begins at its time, lasts as long as it says, and is counted.

Rule of this file: it does to members, links and disks what the world may do to them, and nothing that the
protocol need not survive: a disk that was lost never comes back under its old name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.client_links import ClientNetwork
from tests.simulation.clients.crowd import Crowd
from tests.simulation.members import SimulatedMember
from tests.simulation.network import PeerNetwork
from tests.simulation.operators import Operators
from tests.simulation.plan import Fault, Plan
from tests.simulation.world import MILLISECOND, World

AT_CHANGE_KINDS = ("crash_at_change", "cut_leader_at_change")  # they wait for the next change
MEMBERSHIP_KINDS = ("join", "promote", "remove", "replace", "wipe", "demote_leader", "use_again")

_OUT_ONLY, _IN_ONLY = 2, 3  # directions of `cut_leader`; anything else: both

Undo = Callable[[], None]


class FaultyWeather:
    """The paths between clients and members: latency, and members that clients cannot reach."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._cut: dict[str, int] = {}

    def client_latency_ns(self, client: str, member: str, number: int) -> int:
        mean_ns = self._plan.network.latency_ns_mean
        return self._world.draw_below(2 * mean_ns, "client-latency", client, member, number)

    def is_client_cut(self, client: str, member: str) -> bool:
        return bool(self._cut) and self._cut.get(member, 0) > 0

    def cut(self, member: str) -> None:
        self._cut[member] = self._cut.get(member, 0) + 1

    def uncut(self, member: str) -> None:
        self._cut[member] -= 1


class Faults:
    """All faults of one run. `end` undoes what still lasts and lets nothing begin any more."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        members: dict[str, SimulatedMember],
        network: PeerNetwork,
        clients: ClientNetwork,
        weather: FaultyWeather,
        operators: Operators,
        crowd: Crowd,
    ) -> None:
        self.operators = operators
        self.crowd = crowd
        self.world = world
        self.plan = plan
        self.members = members
        self.network = network
        self.clients = clients
        self.weather = weather
        self.counts: dict[str, int] = {}
        self._is_over = False
        self._lasting: dict[int, Undo] = {}
        self._number = 0
        self._at_change: list[Fault] = []

    def schedule(self) -> None:
        for number, fault in enumerate(self.plan.faults):
            self.world.at(fault.at_ms * MILLISECOND, self._beginning(number, fault))

    def end(self) -> None:
        """The safety phase is over: everything that lasts is undone."""
        self._is_over = True
        self.operators.end()
        self._at_change.clear()
        lasting, self._lasting = self._lasting, {}
        for undo in lasting.values():
            undo()
        for member in self.members.values():
            member.disk.fails_after = None
            member.crash_after = 0
            member.crash_at_install = False

    def configuration_proposed(self, member: SimulatedMember) -> None:
        """A leader has appended a configuration: that is when some faults of the plan have waited for it."""
        if not self._at_change:
            return
        waiting = self._at_change.pop(0)
        kind = waiting.kind.removesuffix("_at_change")
        fault = replace(waiting, kind=kind, member=member.name)
        self._number += 1
        self._beginning(-self._number, fault)()

    def _beginning(self, number: int, fault: Fault) -> Callable[[], None]:
        def begin() -> None:
            if self._is_over:
                return
            undo = self._carry_out(fault)
            if undo is None:
                return
            self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
            self._lasting[number] = undo
            self.world.at(fault.duration_ms * MILLISECOND, lambda: self._undo(number))

        return begin

    def _undo(self, number: int) -> None:
        undo = self._lasting.pop(number, None)
        if undo is not None:
            undo()

    def _carry_out(self, fault: Fault) -> Undo | None:
        """Begin a fault. Returns how to end it; None if it found nobody to hit."""
        if fault.kind in AT_CHANGE_KINDS:
            self._at_change.append(fault)
            return None
        if fault.kind in MEMBERSHIP_KINDS:
            self.operators.carry_out(fault)
            return None
        if fault.pairs:
            pairs = [(pair.partition(">")[0], pair.partition(">")[2]) for pair in fault.pairs.split()]
            self.world.trace("world", fault.kind, fault.pairs, fault.duration_ms)
            return self._cut(pairs) if fault.kind == "cut" else self._clog(pairs, fault.amount)
        member = self._whom(fault)
        if member is None:
            return None
        self.world.trace("world", fault.kind, member.name, fault.duration_ms, fault.amount, fault.is_total)
        handler: Callable[[Fault, SimulatedMember], Undo] = getattr(self, f"_{fault.kind}")
        return handler(fault, member)

    def _whom(self, fault: Fault) -> SimulatedMember | None:
        if fault.member != "leader":
            member = self.members.get(fault.member)
            return member if member is not None and member.is_up else None
        leaders = [
            member for member in self.members.values() if member.is_up and member.replica.state.raft.is_leader
        ]
        return max(leaders, key=lambda member: member.replica.state.raft.term, default=None)

    # --- processes ---

    def _crash(self, fault: Fault, member: SimulatedMember) -> Undo:
        if fault.amount:
            member.crash_after = fault.amount  # in the middle of one of the next writes
            member.crash_loses_power = fault.is_total
        else:
            member.crash(loses_power=fault.is_total, is_told=fault.duration_ms % 3 > 0)
        return lambda: self._start(member)

    def _install_crash(self, fault: Fault, member: SimulatedMember) -> Undo:
        """The next snapshot that the member takes in is the last thing that it does."""
        member.crash_at_install = True
        member.crash_loses_power = fault.is_total
        return lambda: self._start(member)

    def _start(self, member: SimulatedMember) -> None:
        member.crash_after = 0
        member.crash_at_install = False
        if not member.is_up and not member.is_retired:
            member.start()

    def _stop(self, fault: Fault, member: SimulatedMember) -> Undo:
        process = member.process()
        member.stop_gracefully()
        takes_ns = 2 * self.plan.cluster.election_ticks * self.plan.cluster.tick_ms * MILLISECOND

        def exit_now() -> None:
            if member.process() == process:
                member.crash(loses_power=False)

        self.world.at(min(takes_ns, fault.duration_ms * MILLISECOND), exit_now)
        return lambda: self._exit_and_start(member, exit_now)

    def _exit_and_start(self, member: SimulatedMember, exit_now: Callable[[], None]) -> None:
        exit_now()
        self._start(member)

    def _pause(self, fault: Fault, member: SimulatedMember) -> Undo:
        since_ns = self.world.now_ns
        process = member.process()
        member.pause()

        def go_on() -> None:
            if member.process() != process:
                return
            if fault.is_total:
                member.clock.miss(self.world.now_ns - since_ns)
            member.resume()

        return go_on

    def _crowd(self, fault: Fault, member: SimulatedMember) -> Undo:
        """No fault by itself: people who call just this member, whatever befalls it."""
        self.crowd.gather(member.name, fault.amount, fault.duration_ms)
        return _nothing

    def _late_ticks(self, fault: Fault, member: SimulatedMember) -> Undo:
        member.late_ticks_ms = 2 * self.plan.cluster.election_ticks * self.plan.cluster.tick_ms

        def in_time() -> None:
            member.late_ticks_ms = 0

        return in_time

    def _wall_jump(self, fault: Fault, member: SimulatedMember) -> Undo:
        member.clock.jump_wall(fault.amount)
        return _nothing

    def _transfer(self, fault: Fault, member: SimulatedMember) -> Undo:
        raft = member.replica.state.raft
        voters = [name for name in raft.configuration.voters if name != member.name]
        if voters:
            target = voters[fault.duration_ms % len(voters)]
            member.feed(member.process(), lambda: raft.transfer_leader(target))
        return _nothing

    # --- disks ---

    def _disk_slow(self, fault: Fault, member: SimulatedMember) -> Undo:
        member.disk_factor = fault.amount

        def fast() -> None:
            member.disk_factor = 1

        return fast

    def _disk_stall(self, fault: Fault, member: SimulatedMember) -> Undo:
        storage = member.storage
        storage.stall()
        return storage.go_on_again

    def _disk_error(self, fault: Fault, member: SimulatedMember) -> Undo:
        member.disk.fails_after = fault.amount
        return _nothing

    def _disk_full(self, fault: Fault, member: SimulatedMember) -> Undo:
        member.disk.is_full = True

        def has_room() -> None:
            member.disk.is_full = False
            self._start(member)

        return has_room

    # --- networks ---

    def _cut(self, pairs: list[tuple[str, str]]) -> Undo:
        self.network.cut(pairs)
        return lambda: self.network.uncut(pairs)

    def _cut_leader(self, fault: Fault, member: SimulatedMember) -> Undo:
        """Whoever leads is cut off from the others: mostly both ways, its clients still reach it."""
        others = [name for name in self.members if name != member.name]
        pairs = [] if fault.amount == _IN_ONLY else [(member.name, name) for name in others]
        pairs += [] if fault.amount == _OUT_ONLY else [(name, member.name) for name in others]
        return self._cut(pairs)

    def _clog(self, pairs: list[tuple[str, str]], by_ms: int) -> Undo:
        for source, target in pairs:
            self.network.clog(source, target, by_ms * MILLISECOND)

        def clear() -> None:
            for source, target in pairs:
                self.network.clog(source, target, 0)

        return clear

    def _reset(self, fault: Fault, member: SimulatedMember) -> Undo:
        for link in self.network.links_from(member.name):
            link.reset()
        return _nothing

    def _hang_up(self, fault: Fault, member: SimulatedMember) -> Undo:
        """A box between the hosts closes all connections: each side wrongly takes the other for dead."""
        self.network.hang_up(member.name)
        return _nothing

    def _client_cut(self, fault: Fault, member: SimulatedMember) -> Undo:
        self.weather.cut(member.name)

        def heal() -> None:
            self.weather.uncut(member.name)
            self.clients.uncut()

        return heal

    def _client_reset(self, fault: Fault, member: SimulatedMember) -> Undo:
        for link in list(self.clients.links.values()):
            if link.member == member.name:
                link.reset("reset by the network")
        return _nothing


def _nothing() -> None:
    """The fault is over as soon as it has happened."""
