"""Who the members are and where, as this member knows it: configurations, greetings, refusals.

Three sources, the later over the earlier: the configuration that was applied, the one in force (the newest
in the log), and what members said of themselves when they greeted. All links are made from their union, so
that a leader that we have not heard of yet can be heard, and can be answered.

A member that is told that it is not one stops only if whoever says so has applied a newer configuration
than it knows itself: a member that was down for long must not turn a new one away. For the same reason a
stranger is let in if it knows a newer configuration than we do.

Rule of this file: it proposes nothing (`membership` does); it says who may be linked to us, and when we
have to go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordproto.v1 import peer_pb2
from coordsvc.codec.cluster_configuration import (
    MEMBERS_MAX,
    NOBODY,
    ClusterConfiguration,
    MemberRecord,
    decode_cluster_configuration,
    explain_bad_record,
)
from coordsvc.codec.results import endpoints_item
from coordsvc.raft.log import Compacted, Unavailable
from coordsvc.raft.types import Configuration, Index, NodeId
from coordsvc.replica.state import ReplicaState

REMOVED = "it was removed from the cluster; its data directory is of no use any more and may be deleted"
REPLACED = (
    "it was removed from the cluster, and its name belongs to another server now; "
    "its data directory is of no use any more and may be deleted"
)


@dataclass(frozen=True, slots=True)
class RefusedGreeting:
    """Why a link is not made. `cause` is a `peer_pb2.RefusalCause`."""

    cause: int
    reason: str
    configuration_index: Index


class Roster:
    """`own` is what this member says of itself; see `Replica` for the other arguments.

    Attributes:
        doubted: Linked to us under a name that, in the configuration in force, is that of another disk.
            What such a peer leads us to is heard, but nothing that it answers is counted.
    """

    def __init__(
        self,
        state: ReplicaState,
        own: MemberRecord,
        joined_index: Index,
        contacts: tuple[MemberRecord, ...],
    ) -> None:
        self._state = state
        self._own = own
        self._joined_index = joined_index
        self._contacts = contacts
        self._seen: dict[NodeId, MemberRecord] = {}  # what members said of themselves, in this run
        self._guests: dict[NodeId, Index] = {}  # not named, but ahead of us: they may stay until we know
        self._read: tuple[Index, Configuration, ClusterConfiguration] | None = None
        self._noticed: tuple[Index, Configuration] | None = None
        self._told: dict[NodeId, MemberRecord] = {}
        self._disks: dict[NodeId, int] = {}  # under which id each name has greeted last
        self._was_member = joined_index > 0  # this disk, not only a member of this name
        self.doubted: set[NodeId] = set()
        self.applied = NOBODY
        self.tree_replaced()

    # -----------------------------------------------------------------------------------------
    # Configurations

    @property
    def known_index(self) -> Index:
        """Of the newest configuration that we know to be committed."""
        return max(self.applied.index, self._joined_index)

    def in_force(self) -> ClusterConfiguration:
        """The newest configuration in the log, with its records. The one applied, if none is newer."""
        raft = self._state.raft
        index = raft.configuration_index
        if index <= self._state.machine.applied_index:
            return self.applied
        configuration = raft.configuration
        if self._read is None or self._read[0] != index or self._read[1] is not configuration:
            try:
                (entry,) = raft.state.log.slice(index, index + 1, 1)
            except (Compacted, Unavailable):
                return self.applied  # A snapshot was accepted, and its tree is not in place yet.
            self._read = (index, configuration, decode_cluster_configuration(entry.data))
        return self._read[2]

    def notice(self) -> None:
        """Look whether another configuration came into force. Called often."""
        raft = self._state.raft
        noticed = self._noticed
        configuration = raft.configuration
        if noticed is None or noticed[1] is not configuration or noticed[0] != raft.configuration_index:
            self._noticed = (raft.configuration_index, configuration)
            self.refresh()

    def configuration_applied(self, configuration: ClusterConfiguration) -> None:
        """A configuration was applied; `index` is filled in."""
        self.applied = configuration
        self._guests = {name: index for name, index in self._guests.items() if index > configuration.index}
        for name, seen in list(self._seen.items()):
            record = configuration.record(name)
            is_another = record is None or record.member_id not in (0, seen.member_id)
            if is_another and name not in self._guests:
                del self._seen[name]
        own = configuration.record(self._state.name)
        if own is not None and own.member_id and own.member_id == self._own.member_id:
            self._was_member = True
        self.refresh()
        self._look_for_ourselves()

    def tree_replaced(self) -> None:
        """The state machine is another one: at the start, or after a snapshot."""
        configuration = self._state.machine.configuration
        if configuration:
            self.configuration_applied(decode_cluster_configuration(configuration))
        else:
            self.refresh()

    def _look_for_ourselves(self) -> None:
        """Stop if the cluster goes on without us. What is older than our joining does not concern us."""
        state = self._state
        applied = self.applied
        if applied.index == 0 or applied.index < self._joined_index:
            return
        record = applied.record(state.name)
        if record is None:
            self._leave()
        elif self._is_another(record):
            self._give_up_the_name()

    def _is_another(self, record: MemberRecord) -> bool:
        """Whether this record of our name is that of another disk."""
        return bool(self._own.member_id) and record.member_id not in (0, self._own.member_id)

    def _look_who_has_our_name(self, in_force: ClusterConfiguration) -> None:
        """Stop if our name is that of another disk, committed or not: it is given again only after we left.

        Our log has grown behind our removal then, and we must not vote in the name of the other.
        """
        record = in_force.record(self._state.name)
        is_news = self._state.raft.configuration_index > self._joined_index
        if is_news and record is not None and self._is_another(record):
            self._give_up_the_name()

    def _leave(self, why: str = REMOVED) -> None:
        self._state.ask_to_move("this member was removed from the cluster")
        self._state.effects.removed = why

    def _give_up_the_name(self) -> None:
        """Another disk has our name. If ours was ever recorded, it was not lost: it was removed."""
        if self._was_member:
            self._leave(REPLACED)
            return
        name = self._state.name
        self._state.effects.stop = (
            f"it lost its disk: a member cannot come back with an empty one, since it would forget its "
            f"votes; replace it: coordctl member remove {name}, then start it with --join "
            f"(or coordctl member replace {name} NEW)"
        )

    # -----------------------------------------------------------------------------------------
    # Greetings

    def check(self, name: NodeId, member_id: int, configuration_index: Index) -> RefusedGreeting | None:
        """Say whether who greets so may be linked to us; None if it may."""
        applied = self.applied
        if name == self._state.name:
            return RefusedGreeting(
                peer_pb2.REFUSAL_OTHER, f"wrong member: '{name}' is not expected by itself", applied.index
            )
        if not applied.members or configuration_index > applied.index:
            # It knows more than we do: it must be able to tell us.
            if name in self._told or len(self._guests) < MEMBERS_MAX:
                return None
            return RefusedGreeting(
                peer_pb2.REFUSAL_OTHER, "too many members that are new here", applied.index
            )
        record = self.in_force().record(name) or applied.record(name)
        if record is None:
            return RefusedGreeting(
                peer_pb2.REFUSAL_NOT_A_MEMBER,
                f"wrong member: '{name}' is not expected by member '{self._state.name}', "
                "it is not in the configuration of the cluster",
                applied.index,
            )
        seen = self._seen.get(name)
        recorded_id = record.member_id or (seen.member_id if seen is not None else 0)
        if recorded_id not in (0, member_id):
            return RefusedGreeting(
                peer_pb2.REFUSAL_ANOTHER_DISK,
                f"member '{name}' has another data directory than the one that joined the cluster",
                applied.index,
            )
        return None

    def greeted(
        self,
        name: NodeId,
        member_id: int,
        peer_address: str,
        client_address: str,
        configuration_index: Index,
    ) -> None:
        """A member that passed `check` said who and where it is."""
        known = self._told.get(name)
        said = MemberRecord(
            name,
            peer_address or (known.peer_address if known is not None else ""),
            client_address or (known.client_address if known is not None else ""),
            member_id,
        )
        if explain_bad_record(said):
            return  # It did not say where it is: the configuration has to.
        self._seen[name] = said
        self._disks.pop(name, None)
        self._disks[name] = member_id
        if len(self._disks) > 2 * MEMBERS_MAX:
            del self._disks[next(iter(self._disks))]
        if configuration_index > self.applied.index or not self.applied.members:
            self._guests[name] = configuration_index
        self.refresh()

    def refused(self, cause: int, configuration_index: Index) -> None:
        """A member does not let us in. One that knows less than we do is mistaken."""
        if configuration_index <= self.known_index:
            return
        if cause == peer_pb2.REFUSAL_NOT_A_MEMBER:
            self._leave()
        elif cause == peer_pb2.REFUSAL_ANOTHER_DISK:
            self._give_up_the_name()

    # -----------------------------------------------------------------------------------------
    # What follows

    def newest(self, record: MemberRecord) -> MemberRecord:
        """The record with what its member, heard from lately, has said of itself."""
        if record.name == self._state.name:
            said: MemberRecord | None = self._own
        else:
            said = self._seen.get(record.name) if self._state.hears(record.name) else None
        if said is None or record.member_id not in (0, said.member_id):
            return record
        return replace(
            record,
            peer_address=said.peer_address or record.peer_address,
            client_address=said.client_address or record.client_address,
            member_id=said.member_id or record.member_id,
        )

    def refresh(self) -> None:
        """Work out anew who is to be linked to, and where clients find the members."""
        state = self._state
        members: dict[NodeId, MemberRecord] = {}
        in_force = self.in_force()
        self._look_who_has_our_name(in_force)
        self.doubted = {
            record.name
            for record in in_force.members
            if record.member_id and self._disks.get(record.name, record.member_id) != record.member_id
        }
        if not self.applied.members:
            members = {contact.name: contact for contact in self._contacts}
        for record in (*self.applied.members, *in_force.members):
            members[record.name] = record
        for name, seen in self._seen.items():
            named = members.get(name)
            is_its_disk = named is not None and named.member_id in (0, seen.member_id)
            if is_its_disk or name in self._guests:
                members[name] = seen
        members.pop(state.name, None)
        for name, record in members.items():
            if record.client_address:
                state.client_addresses[name] = record.client_address
        if members != self._told:
            self._told = members
            state.effects.members = members
        self._tell_clients()

    def _tell_clients(self) -> None:
        """Tell clients where the members are, whenever that changes."""
        state = self._state
        known = state.client_addresses
        names = [record.name for record in self.applied.members] or sorted(known)
        endpoints = [known[name] for name in names if known.get(name)]
        if endpoints == state.endpoints:
            return
        state.endpoints = endpoints
        item = endpoints_item(endpoints)
        for connection in state.by_session.values():
            connection.push(item)
            state.mark(connection)
