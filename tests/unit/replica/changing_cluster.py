"""The cluster of `cluster.py` with members that come, go, move and lose their disks.

Links are made as the server makes them: a member dials those that `effects.members` names, at the address
that it knows, both sides greet, and either may refuse. Frames pass only where a link stands.
"""

from __future__ import annotations

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import (
    NOBODY,
    MemberRecord,
    decode_cluster_configuration,
    decode_raft_configuration,
    encode_cluster_configuration,
    founding_configuration,
)
from coordsvc.raft.node import RaftConfig, RaftNode
from coordsvc.replica.changes import Change, ChangeRequest, JoinMember
from coordsvc.replica.core import Replica
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.machine import StateMachine
from tests.unit.replica.cluster import Cluster, Member


class ChangingCluster(Cluster):
    """`names` found it. A member that had to stop is in `removed` or `stopped`, with its reason."""

    def __init__(self, *names: str, settings: ReplicaSettings | None = None) -> None:
        self.founders = {name: f"{name}:7401" for name in names}
        self.ids = {name: number for number, name in enumerate(sorted(names), 1)}
        self.addresses = dict(self.founders)
        self.joined: dict[str, tuple[int, int]] = {}  # term and index
        self.told: dict[str, dict[str, MemberRecord]] = {}
        self.linked: set[tuple[str, str]] = set()
        self.refusals: list[tuple[str, str, int]] = []  # (who dialled, whom, why)
        self.removed: dict[str, str] = {}
        self.stopped: dict[str, str] = {}
        super().__init__(*names, settings=settings)

    # -----------------------------------------------------------------------------------------
    # Members

    def start(self, name: str) -> None:
        member = self.members[name]
        machine = StateMachine(member.store, self.limits)
        contacts: tuple[MemberRecord, ...] = ()
        if self.joined.get(name):
            contacts = founding_configuration(self.founders).members
        elif not machine.configuration:
            machine.set_configuration(encode_cluster_configuration(founding_configuration(self.founders)))
        configuration = NOBODY
        if machine.configuration:
            configuration = decode_cluster_configuration(machine.configuration)
        raft = RaftNode(
            RaftConfig(name),
            member.log,
            member.hard_state,
            configuration.raft,
            machine.applied_index,
            lambda bound: self.dice.randrange(bound),
            decode_raft_configuration,
            self.joined.get(name, (0, 0)),
        )
        member.replica = Replica(
            name,
            raft,
            machine,
            self.settings,
            client_address=f"{name}:7400",
            first_number=self.dice.randrange(1 << 40),
            member_id=self.ids[name],
            peer_address=self.addresses[name],
            joined_index=self.joined.get(name, (0, 0))[1],
            contacts=contacts,
        )
        member.replica.set_time(self.now_ms, self.now_ms)
        self.told[name] = {}
        self.down.discard(name)

    def kill(self, name: str) -> None:
        super().kill(name)
        self.linked = {link for link in self.linked if name not in link}

    def lose_disk(self, name: str) -> None:
        """The member's disk is empty, and it is started as a founder again."""
        self.kill(name)
        self.members[name] = Member(name)
        self.ids[name] += 1000
        self.start(name)

    def move(self, name: str, peer_address: str) -> None:
        """The member is started again, and listens elsewhere."""
        self.addresses[name] = peer_address
        self.restart(name)

    def isolate(self, name: str) -> None:
        super().isolate(name)
        self.linked = {link for link in self.linked if name not in link}

    def heal(self) -> None:
        self.cut = set()
        self.tick()

    # -----------------------------------------------------------------------------------------
    # Changes

    def leader(self) -> str:
        (name,) = [member.name for member in self.up() if member.replica.state.raft.is_leader]
        return name

    def change(self, change: Change, *, force: bool = False, at: str = "") -> ChangeRequest:
        """Ask the leader for a change, and give it time."""
        request = self.replica(at or self.leader()).change_membership(change, force=force)
        for _ in range(60):
            if request.is_settled:
                break
            self.tick()
        return request

    def join(self, name: str, *, asked_as: str | None = None, member_id: int = 0) -> ChangeRequest:
        """A new server asks to be taken in, and starts if it is."""
        self.ids.setdefault(name, member_id or 100 + len(self.ids))
        self.addresses.setdefault(name, f"{name}:7401")
        wanted = name if asked_as is None else asked_as
        request = self.change(
            JoinMember(wanted, self.addresses[name], f"{name}:7400", member_id or self.ids[name])
        )
        if request.outcome is not None and name not in self.members:
            self.members[name] = Member(name)
            assert request.outcome.index == request.proposed
            self.joined[name] = (request.proposed_term, request.proposed)
            self.start(name)
            self.tick(3)
        return request

    def roles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(voters, learners) as applied by the leader; not joint."""
        applied = self.replica(self.leader()).roster.applied
        assert not applied.is_joint
        return applied.raft.voters, applied.raft.learners

    # -----------------------------------------------------------------------------------------
    # Links

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self._dial_all()
            super().tick()
            self._dial_all()
            self.settle()

    def _dial_all(self) -> None:
        for member in self.up():
            self._carry_out(member)
            for peer, record in self.told[member.name].items():
                is_there = peer in self.members and peer not in self.down and member.name not in self.down
                if (
                    is_there
                    and self.addresses[peer] == record.peer_address
                    and (member.name, peer) not in self.linked
                    and (member.name, peer) not in self.cut
                ):
                    self._dial(member.name, peer)
                    self._carry_out(self.members[peer])
                    self._carry_out(member)

    def _dial(self, source: str, target: str) -> None:
        """One greeting, and its answer."""
        dialler, listener = self.replica(source), self.replica(target)
        refused = listener.check_greeting(source, self.ids[source], dialler.roster.known_index)
        if refused is not None:
            self.refusals.append((source, target, refused.cause))
            dialler.peer_refused(refused.cause, refused.configuration_index)
            return
        self._greet(source, target)
        if dialler.check_greeting(target, self.ids[target], listener.roster.known_index) is None:
            self._greet(target, source)
            self.linked.add((source, target))
            dialler.peer_up(target, f"{target}:7400")

    def _greet(self, source: str, target: str) -> None:
        said = self.replica(source).roster.known_index
        self.replica(target).peer_greeted(
            source, self.ids[source], self.addresses[source], f"{source}:7400", said
        )

    def _carry_out(self, member: Member) -> None:
        effects = member.replica.take_effects()
        name = member.name
        if effects.members is not None:
            self.told[name] = effects.members
            self.linked = {
                (source, target)
                for source, target in self.linked
                if name not in (source, target) or (source if target == name else target) in effects.members
            }
        for peer, frames in effects.frames.items():
            if (name, peer) in self.linked and peer not in self.down and (name, peer) not in self.cut:
                self.links.setdefault((name, peer), []).extend(frames)
        member.snapshots_wanted += effects.snapshots
        self.notes += [(name, event, fields) for event, fields in effects.notes]
        if effects.removed:
            self.removed[name] = effects.removed
            self.kill(name)
        if effects.stop:
            self.stopped[name] = effects.stop
            self.kill(name)

    def causes(self, source: str) -> set[str]:
        """Why this member was not let in, so far."""
        return {
            peer_pb2.RefusalCause.Name(cause)  # type: ignore[arg-type]  # a number of that enumeration
            for dialler, _, cause in self.refusals
            if dialler == source
        }
