"""Changes of the membership: checked, proposed, carried to their end. Raft §6; decision 0012.

On the leader, and only there, this makes three kinds of configuration entries, one at a time: the steps of
a change that was asked for; the leaving of a joint configuration, whoever began it; and, when nothing else
is under way, one that records what members have said of themselves (addresses, the identity of their disks).

A request is settled by the log alone: its first entry is applied in the term in which it was proposed, and
then a configuration that is not joint. So its outcome is known also to a member that leads no longer.

What a refusal is called tells a caller what to do: NO_LEADER: ask the member in the hint (or, without one,
later); LIMIT_EXCEEDED: another change is under way, try later; CATCHING_UP: the learner is behind, try
later; CHECK_FAILED: it would cost the quorum, only with `force`; INVALID_ARGUMENT and NODE_EXISTS: never.

Rule of this file: the leader keeps nothing that the next one would need.
"""

from __future__ import annotations

from coordsvc.codec.cluster_configuration import (
    ADDRESS_LENGTH_MAX,
    MEMBERS_MAX,
    ClusterConfiguration,
    MemberRecord,
    encode_cluster_configuration,
    with_records,
)
from coordsvc.raft.membership import ConfigurationError, leave, plan
from coordsvc.raft.node import ProposalDropped
from coordsvc.raft.types import Configuration, Entry, NodeId
from coordsvc.replica.change_rules import (
    choose_name,
    describe,
    explain_unfit,
    explain_unfit_joiner,
    no_member,
    target_of,
    without_clashes,
)
from coordsvc.replica.changes import (
    AddMember,
    Change,
    ChangeRequest,
    JoinMember,
    PromoteMember,
    RemoveMember,
)
from coordsvc.replica.roster import Roster
from coordsvc.replica.state import ReplicaState
from coordsvc.statemachine.results import ErrorCode, Failure

BEHIND_ENTRIES_MAX = 1_000  # a learner that lacks more of what is committed is not promoted

assert ADDRESS_LENGTH_MAX * MEMBERS_MAX < 1 << 20, "a configuration fits into one message between members"


class MembershipChanges:
    def __init__(self, state: ReplicaState, roster: Roster) -> None:
        self._state = state
        self._roster = roster
        self._request: ChangeRequest | None = None

    # -----------------------------------------------------------------------------------------
    # In

    def begin(self, change: Change, *, force: bool) -> ChangeRequest:
        """Take in a change. It may be settled at once; else `effects.settled` brings it back."""
        state = self._state
        request = ChangeRequest(state.take_number(), change, force, change.name)
        if not state.raft.is_leader:
            self._refer_to_leader(request)
            return request
        if self._request is not None or self._roster.in_force().is_joint:
            under_way = describe(self._request.change) if self._request is not None else "a step of one"
            message = f"another change of the membership is under way: {under_way}; try again when it is done"
            self._fail(request, ErrorCode.LIMIT_EXCEEDED, message)
            return request
        self._request = request
        self._advance()
        return request

    def forget(self, request: ChangeRequest) -> None:
        """Nobody waits for it any more. What was proposed goes on."""
        if self._request is request:
            self._request = None

    def tick(self) -> None:
        """Go on with whatever waits."""
        request = self._request
        if request is not None:
            self._look_at_log(request)
        if self._state.raft.is_leader and self._roster.applied.members:
            self._advance()

    def leader_changed(self) -> None:
        """A request that was not proposed here has to be made again, at the new leader."""
        request = self._request
        state = self._state
        if request is None or request.proposed or state.raft.is_leader or state.leader is None:
            return
        self._refer_to_leader(request)

    def entry_applied(self, entry: Entry, configuration: ClusterConfiguration) -> None:
        """A configuration entry was applied; the roster knows it."""
        request = self._request
        if request is not None and request.proposed == entry.index:
            request.is_committed = entry.term == request.proposed_term
        self._settle_if_complete(configuration)
        if self._state.raft.is_leader:
            self._advance()

    def tree_replaced(self) -> None:
        """A snapshot took the place of the tree: what became of a request shows in its configuration."""
        request = self._request
        applied = self._roster.applied
        if request is None or not request.proposed or applied.index < request.proposed:
            return
        # Who joins has to hear the term of the entry that names it: it asks again.
        if applied.raft == request.target and not isinstance(request.change, JoinMember):
            request.is_committed = True
            self._settle_if_complete(applied)
            return
        message = "leadership was lost during the change; look at the members before repeating it"
        self._fail(request, ErrorCode.UNKNOWN_OUTCOME, message)

    # -----------------------------------------------------------------------------------------
    # Steps, on the leader

    def _advance(self) -> None:
        """Propose what is due next, if the last one is committed."""
        state = self._state
        if state.raft.transferee is not None:
            return
        request = self._request
        if request is not None and request.hands_over_until_ms:
            self._hand_over_again(request)
            return
        if not state.raft.is_configuration_committed:
            return
        in_force = self._roster.in_force()
        if in_force.is_joint:
            self._propose(leave(in_force.raft), in_force.members)
        elif request is not None and not request.proposed:
            self._start(request, in_force)
        elif request is None or request.is_committed:
            self._record_news(in_force)

    def _record_news(self, in_force: ClusterConfiguration) -> None:
        """Write down what members have said of themselves, if that is new."""
        records = self._newest(in_force.members)
        if records != in_force.members:
            self._propose(in_force.raft, records)

    def _newest(self, records: tuple[MemberRecord, ...]) -> tuple[MemberRecord, ...]:
        """The records with what their members say of themselves.

        A place that was announced is filled by a join alone: the disk that had the name before may greet
        while it does not know yet that it was removed.
        """
        voters = self._state.raft.configuration.voters
        said = (
            self._roster.newest(record) if record.member_id or record.name in voters else record
            for record in records
        )
        return without_clashes(records, tuple(said))

    def _start(self, request: ChangeRequest, in_force: ClusterConfiguration) -> None:
        change = request.change
        if not in_force.members:
            message = "this member does not keep the addresses of its cluster"
            self._fail(request, ErrorCode.INVALID_ARGUMENT, message)
            return
        if isinstance(change, JoinMember):
            request.name = change.name or choose_name(in_force, change)
        refusal = self._refusal(request, in_force)
        if refusal is not None:
            self._fail(request, refusal.code, refusal.message)
            return
        voters, learners, records = target_of(request, in_force)
        if not request.force and (at_stake := self._explain_lost_quorum(voters)):
            self._fail(request, ErrorCode.CHECK_FAILED, at_stake)
            return
        if self._hands_over_first(request, voters):
            return
        # A join that is repeated is proposed again: its answer names the term and the index of its entry.
        newest = self._newest(records)
        request.target = Configuration(tuple(sorted(voters)), learners=tuple(sorted(learners)))
        try:
            first = plan(in_force.raft, voters, learners)
            self._propose(first, newest, request)
        except ConfigurationError as error:
            self._fail(request, ErrorCode.INVALID_ARGUMENT, str(error))

    def _propose(
        self,
        configuration: Configuration,
        records: tuple[MemberRecord, ...],
        request: ChangeRequest | None = None,
    ) -> None:
        """Propose, now or at a later tick: what cannot be appended yet is worked out anew then."""
        state = self._state
        following = with_records(configuration, records)
        try:
            index = state.raft.propose_configuration(encode_cluster_configuration(following))
        except ProposalDropped:
            return
        if request is not None:
            request.proposed, request.proposed_term = index, state.raft.term
        state.effects.note(
            "configuration_proposed",
            index=index,
            voters=",".join(configuration.voters),
            outgoing=",".join(configuration.voters_outgoing),
            learners=",".join(configuration.learners),
        )
        self._roster.notice()

    # -----------------------------------------------------------------------------------------
    # The leader itself is to go

    def _hands_over_first(self, request: ChangeRequest, voters: set[NodeId]) -> bool:
        """Let a voter that stays lead, if there is one that can. The caller repeats its request there."""
        state = self._state
        if state.name in voters:
            return False
        successor = self.best_successor(voters)
        if successor is None:
            return False
        request.hands_over_until_ms = state.now_ms + 3 * state.settings.election_timeout_ms
        state.effects.note("leadership_handed_over", to=successor, why=describe(request.change))
        state.raft.transfer_leader(successor)
        return True

    def _hand_over_again(self, request: ChangeRequest) -> None:
        state = self._state
        successor = self.best_successor(set(state.raft.configuration.voters))
        if successor is None or state.now_ms >= request.hands_over_until_ms:
            message = f"leadership could not be handed over by {state.name}, which is to go; try again"
            self._fail(request, ErrorCode.NO_LEADER, message)
            return
        state.raft.transfer_leader(successor)

    def best_successor(self, among: set[NodeId]) -> NodeId | None:
        """The other voter in `among`, heard from lately, that has most of the log."""
        state = self._state
        followers = state.raft.status().followers
        able = [
            name
            for name in state.raft.configuration.voters
            if name in among and name in followers and state.hears(name)
        ]
        return max(able, key=lambda name: (followers[name].match, name), default=None)

    # -----------------------------------------------------------------------------------------
    # Checks

    def _refusal(self, request: ChangeRequest, in_force: ClusterConfiguration) -> Failure | None:
        """Say why this change makes no sense in the configuration in force."""
        change = request.change
        raft = in_force.raft
        if isinstance(change, AddMember):
            return explain_unfit(MemberRecord(change.name, change.peer_address), in_force, is_new=True)
        if isinstance(change, JoinMember):
            return explain_unfit_joiner(request.name, change, in_force)
        if in_force.record(change.name) is None:
            return no_member(change.name, in_force)
        if isinstance(change, RemoveMember):
            if raft.voters == (change.name,):
                message = f"{change.name} is the last voting member: promote another one before it goes"
                return Failure(ErrorCode.INVALID_ARGUMENT, message)
            return None
        if isinstance(change, PromoteMember):
            return self._explain_not_promotable(change.name, in_force)
        if change.name not in raft.voters:
            message = f"{change.name} is no voting member: use remove and promote instead of replace"
            return Failure(ErrorCode.INVALID_ARGUMENT, message)
        return self._explain_not_promotable(change.by, in_force)

    def _explain_not_promotable(self, name: NodeId, in_force: ClusterConfiguration) -> Failure | None:
        record = in_force.record(name)
        if record is None:
            return no_member(name, in_force, "; start it with --join first")
        if name in in_force.raft.voters:
            return Failure(ErrorCode.INVALID_ARGUMENT, f"{name} is a voting member already")
        if record.member_id == 0:
            # Whoever answers under this name may be the disk that had it before.
            message = f"{name} has not caught up: it was announced, and has not joined; start it with --join"
            return Failure(ErrorCode.CATCHING_UP, message)
        follower = self._state.raft.status().followers.get(name)
        if follower is None or not self._state.hears(name):
            message = f"{name} has not caught up: it is not heard from; is it running?"
            return Failure(ErrorCode.CATCHING_UP, message)
        behind = self._state.raft.commit_index - follower.match
        if follower.match == 0 or behind > BEHIND_ENTRIES_MAX:
            message = f"{name} has not caught up: it is {behind} entries behind; try again in a while"
            return Failure(ErrorCode.CATCHING_UP, message)
        return None

    def _explain_lost_quorum(self, voters: set[NodeId]) -> str:
        """Say what is at stake if too few of these voters can be reached; "" if enough can."""
        if voters == set(self._state.raft.configuration.voters):
            return ""
        silent = sorted(name for name in voters if not self._state.hears(name))
        needed = len(voters) // 2 + 1
        reachable = len(voters) - len(silent)
        if reachable >= needed:
            return ""
        return (
            f"after this change {', '.join(sorted(voters))} would vote, of which {reachable} can be reached "
            f"({', '.join(silent)} not) and {needed} are needed: the cluster would take no writes. "
            "Start the missing ones, or remove those first; force it only if they come back for certain"
        )

    # -----------------------------------------------------------------------------------------
    # Outcomes

    def _look_at_log(self, request: ChangeRequest) -> None:
        """An earlier leader's end took its entry away: its place in the log is applied, and it was not there.

        Or the log comes to a later term before that place: terms in a log never decrease.
        """
        if not request.proposed or request.is_committed:
            return
        machine = self._state.machine
        if machine.applied_index >= request.proposed or machine.applied_term > request.proposed_term:
            self._refer_to_leader(request)

    def _settle_if_complete(self, applied: ClusterConfiguration) -> None:
        request = self._request
        if request is not None and request.is_committed and not applied.is_joint:
            self._settle(request, applied)

    def _settle(self, request: ChangeRequest, outcome: ClusterConfiguration) -> None:
        request.outcome = outcome
        self._state.effects.note("members_changed", change=describe(request.change), index=outcome.index)
        self._close(request)

    def _fail(self, request: ChangeRequest, code: ErrorCode, message: str) -> None:
        request.failure = Failure(code, message)
        self._close(request)

    def _refer_to_leader(self, request: ChangeRequest) -> None:
        state = self._state
        who = f"{state.leader} does" if state.leader is not None else "nobody does now"
        request.leader_hint = state.leader_hint() if state.leader != state.name else ""
        self._fail(request, ErrorCode.NO_LEADER, f"{state.name} does not lead, {who}; ask the leader")

    def _close(self, request: ChangeRequest) -> None:
        if self._request is request:
            self._request = None
        self._state.effects.settled.append(request)
