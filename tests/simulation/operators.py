"""Whoever changes the membership: asks the leader, is refused, asks again, and starts the servers that join.

Rule of this file: it does what a person with `coordctl member` does. What such a person must not do, giving
a member an empty disk and its old name, it tries only where everybody knows the old one.
"""

from __future__ import annotations

from collections.abc import Callable

from coordsvc.raft.types import Configuration
from coordsvc.replica.changes import (
    Change,
    ChangeRequest,
    JoinMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from coordsvc.statemachine.results import ErrorCode
from tests.simulation.members import SimulatedMember
from tests.simulation.opening import client_address, peer_address
from tests.simulation.plan import SPARE_NAMES, Fault
from tests.simulation.rejoining import once, use_name_again
from tests.simulation.world import MILLISECOND, World

_TRY_AGAIN_MS_MAX = 300
_IMPOSTOR_AFTER_NS = 300 * MILLISECOND
_TRIES_MAX = 60
_TRANSIENT = (ErrorCode.NO_LEADER, ErrorCode.LIMIT_EXCEEDED, ErrorCode.CATCHING_UP)

Done = Callable[[ChangeRequest], None]


class Operators:
    """All changes of the membership in one run."""

    def __init__(
        self,
        world: World,
        members: dict[str, SimulatedMember],
        make: Callable[[str], SimulatedMember],
    ) -> None:
        self.world = world
        self.members = members
        self.counts: dict[str, int] = {}
        self._make = make
        self._waiting: dict[int, tuple[Change, bool, int, Done]] = {}
        self._undo: list[Callable[[], None]] = []
        self.is_over = False
        self._joins = 0

    def end(self) -> None:
        """Nothing new is begun: whom the healing buries is not missed yet. What is in the log goes on."""
        self.is_over = True
        for undo in self._undo:
            undo()
        for member in self.members.values():
            request = member.replica._changes._request if member.is_up else None
            if request is not None and not request.proposed:
                member.replica.forget_change(request)

    def carry_out(self, fault: Fault) -> None:
        """Begin what the plan says, if it makes sense now."""
        configuration = self.newest_configuration()
        voters = list(configuration.voters)
        learners = list(configuration.learners)
        kind, name = fault.kind, fault.member
        if kind == "join":
            self.join()
        elif kind == "promote" and learners:
            self.ask(PromoteMember(learners[fault.amount % len(learners)]), force=fault.is_total)
        elif kind == "remove" and (name in voters or name in learners):
            self.ask(RemoveMember(name), force=fault.is_total)
        elif kind == "demote_leader":
            leader = self.leader()
            if leader is not None:
                self.ask(RemoveMember(leader.name), force=fault.is_total)
        elif kind == "replace" and learners and voters:
            old = voters[fault.amount % len(voters)]
            self.ask(ReplaceMember(old, learners[fault.amount % len(learners)]), force=fault.is_total)
        elif kind == "wipe" and name in voters and self._may_be_wiped(configuration):
            self._wipe(self.members[name], comes_back=fault.is_total)
        elif kind == "use_again":
            use_name_again(self, fault)

    # -----------------------------------------------------------------------------------------
    # Who is there

    def leader(self) -> SimulatedMember | None:
        leaders = [
            member for member in self.members.values() if member.is_up and member.replica.state.raft.is_leader
        ]
        return max(leaders, key=lambda member: member.replica.state.raft.term, default=None)

    def newest_configuration(self) -> Configuration:
        """The one in force at whoever has the newest log."""

        def newness(member: SimulatedMember) -> tuple[int, int]:
            raft = member.replica.state.raft
            return raft.state.log.last_term, raft.last_index

        started = [member for member in self.members.values() if member.process()]
        return max(started, key=newness).replica.state.raft.configuration

    def configurations(self) -> list[Configuration]:
        """The newest configuration that was applied anywhere, and whatever may come after it."""
        started = [member.replica for member in self.members.values() if member.process()]
        applied = max((replica.roster.applied for replica in started), key=lambda one: one.index)
        found = [applied.raft]
        for replica in started:
            raft = replica.state.raft
            if raft.configuration_index > applied.index:
                found.append(raft.configuration)
        return list(dict.fromkeys(found))

    def halves(self) -> list[tuple[str, ...]]:
        """Every group of voters of which a majority may be needed; that of what was applied first."""
        groups = []
        for configuration in self.configurations():
            groups += [group for group in (configuration.voters, configuration.voters_outgoing) if group]
        return list(dict.fromkeys(groups))

    def _may_be_wiped(self, configuration: Configuration) -> bool:
        """Another disk may go only while every majority can do without it."""
        for group in self.halves():
            lost = sum(1 for name in group if self.members[name].is_retired)
            if 2 * (lost + 1) >= len(group):
                return False
        return not configuration.voters_outgoing

    # -----------------------------------------------------------------------------------------
    # What they do

    def join(self, then: Callable[[str], None] | None = None) -> None:
        """Start one more server, which joins as a learner."""
        if self._joins >= len(SPARE_NAMES):
            return
        name = SPARE_NAMES[self._joins]
        self._joins += 1
        member = self._make(name)
        change = JoinMember(name, peer_address(name), client_address(name), member.disk.member_id)

        def joined(request: ChangeRequest) -> None:
            if request.outcome is None or member.is_up:
                return
            self.started_after_joining(member, request)
            if then is not None:
                then(name)

        self.ask(change, force=False, done=joined)

    def started_after_joining(self, member: SimulatedMember, request: ChangeRequest) -> None:
        """The server that has joined writes down what it was told, and starts."""
        assert request.outcome is not None, "it was taken in"
        disk = member.disk
        disk.joined_index, disk.joined_term = request.proposed, request.proposed_term
        disk.contacts = tuple(record for record in request.outcome.members if record.name != member.name)
        member.is_retired = False
        member.start()

    def undo_at_the_end(self, undo: Callable[[], None]) -> Callable[[], None]:
        """Return what undoes something once; at the end of the faults at the latest."""
        self._undo.append(once(undo))
        return self._undo[-1]

    def _wipe(self, member: SimulatedMember, *, comes_back: bool) -> None:
        """A disk is lost with its member; a new server takes its place when it has caught up."""
        self.world.trace("world", "disk-lost", member.name)
        member.is_retired = True
        member.crash(loses_power=True)
        self.count("wipe")
        if comes_back and self._everybody_knows(member):
            self.count("impostor")
            self.world.at(_IMPOSTOR_AFTER_NS, member.come_back_empty)
        self.join(lambda name: self.ask(ReplaceMember(member.name, name), force=True))

    def _everybody_knows(self, member: SimulatedMember) -> bool:
        """Whether nobody can take the member's new disk for its first one."""
        others = [other for other in self.members.values() if other is not member and other.process()]
        for other in others:
            record = other.replica.roster.applied.record(member.name)
            if record is None or not record.member_id:
                return False
        return True

    def ask(self, change: Change, *, force: bool, done: Done | None = None) -> None:
        self.world.trace("operator", "asks", repr(change), force)
        self.count(type(change).__name__)
        self._try(change, force, 0, done or _as_it_may_be)

    def _try(self, change: Change, force: bool, tries: int, done: Done) -> None:
        if self.is_over:
            return
        leader = self.leader()
        if leader is None or leader.is_paused:
            self._again(change, force, tries, done)
            return
        member = leader

        def begin() -> None:
            request = member.replica.change_membership(change, force=force and self._can_live_after(change))
            self._waiting[request.number] = (change, force, tries, done)

        member.feed(member.process(), begin)

    def _can_live_after(self, change: Change) -> bool:
        """Whether a majority would be left of disks that are not lost: nobody forces the end of a cluster."""
        voters = set(self.newest_configuration().voters)
        if isinstance(change, RemoveMember | ReplaceMember):
            voters.discard(change.name)
        if isinstance(change, ReplaceMember):
            voters.add(change.by)
        left = sum(1 for name in sorted(voters) if name in self.members and not self.members[name].is_retired)
        return 2 * left > len(voters)

    def settled(self, request: ChangeRequest) -> None:
        """A member answers a request, its own way; nobody answers for a member that is gone."""
        waiting = self._waiting.pop(request.number, None)
        if waiting is None:
            return
        change, force, tries, done = waiting
        failure = request.failure
        self.world.trace("operator", "is told", repr(change), failure.message if failure else "done")
        if failure is not None and failure.code in _TRANSIENT:
            self._again(change, force, tries, done)
            return
        done(request)

    def _again(self, change: Change, force: bool, tries: int, done: Done) -> None:
        if tries >= _TRIES_MAX or self.is_over:
            return
        # Some are so impatient that they catch a leader before it has committed anything.
        wait_ms = self.world.draw_log(2, _TRY_AGAIN_MS_MAX, "operator", repr(change), tries)
        self.world.at(wait_ms * MILLISECOND, lambda: self._try(change, force, tries + 1, done))

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def _as_it_may_be(_request: ChangeRequest) -> None:
    """Whatever became of it, nobody waits for it."""
