"""What must always hold: of one node, from one step to the next, and across the cluster. Raft Figure 3.

Rule of this file: it only looks. The names (R1, G1, ...) occur in assertion messages, tests and docs.
R2 and R9 over restarts need the disk's view and are held by the tests' crash model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordsvc.raft.log import Log, LogStorage
from coordsvc.raft.node import RaftNode
from coordsvc.raft.progress import ProgressState
from coordsvc.raft.quorum import VoteResult, joint_vote
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import Configuration, Entry, EntryKind, Index, NodeId, Term

TAIL_ENTRIES_CHECKED = 32


@dataclass(frozen=True, slots=True)
class Observation:
    """What `check_step` compares; cheap to take."""

    term: Term
    vote: NodeId | None
    role: Role
    commit: Index
    commit_term: Term
    applied: Index
    last_index: Index
    last_term: Term
    matches: dict[NodeId, Index]


def observe(node: RaftNode) -> Observation:
    """Note what the next step must not break."""
    state, log = node.state, node.state.log
    matches = {}
    if state.role is Role.LEADER:
        matches = {progress.node: progress.match for progress in state.members.progress.values()}
    return Observation(
        term=state.term,
        vote=state.vote,
        role=state.role,
        commit=log.commit,
        commit_term=log.term(log.commit) if log.commit >= log.first_index() - 1 else 0,
        applied=log.applied,
        last_index=log.last_index,
        last_term=log.last_term,
        matches=matches,
    )


def check_step(before: Observation, after: Observation, node: RaftNode) -> None:
    """Check what a step may not do. `after` is the present state of `node`."""
    log = node.state.log
    assert after.term >= before.term, "R1: the term never decreases"
    if after.term == before.term:
        assert before.vote in (None, after.vote), "R2: one vote a term"
    assert after.commit >= before.commit, "R3: commit never decreases"
    assert after.applied >= before.applied, "R3: applied never decreases"
    if before.commit_term and before.commit >= log.first_index() - 1:
        assert log.term(before.commit) == before.commit_term, "R6: what is committed never changes"
    if before.role is Role.LEADER and after.role is Role.LEADER and before.term == after.term:
        assert after.last_index >= before.last_index, "R5: a leader only appends"
        assert log.term(before.last_index) == before.last_term, "R5: a leader only appends"
        for follower, match in before.matches.items():
            assert after.matches.get(follower, match) >= match, "R7: match never decreases in a term"
    if after.role is Role.LEADER and after.commit > before.commit and before.role is Role.LEADER:
        assert after.commit_term == after.term, "R8: a leader commits entries of its own term"


def check_node(node: RaftNode) -> None:
    """Check one node by itself."""
    state = node.state
    _check_log(state.log, state.term)
    _check_configurations(state)
    _check_role(state)
    if state.role is Role.LEADER:
        _check_leader(state)


def _check_log(log: Log, term: Term) -> None:
    first = log.first_index()
    assert log.applied <= log.applying <= log.commit <= log.last_index, "R3: applied <= commit <= last"
    assert log.stable <= log.handed <= log.last_index, "R3: stable <= handed <= last"
    if log.snapshot is None:
        assert first - 1 <= log.applied, "R3: the snapshot is applied"
        assert log.applying <= max(log.stable, log.applied), "R10: only durable entries are applied"
    assert log.last_term <= term, "R4: no entry from the future"
    low = max(first, log.last_index - TAIL_ENTRIES_CHECKED)
    previous = log.term(low - 1)
    for index in range(low, log.last_index + 1):
        (entry,) = log.slice(index, index + 1, 0)
        assert entry.index == index, "R4: indexes are contiguous"
        assert entry.term >= previous, "R4: terms never decrease"
        previous = entry.term
    assert log.term(log.last_index) == log.last_term, "R4: the last term is the last entry's"


def _check_configurations(state: NodeState) -> None:
    log, configurations = state.log, state.configurations
    assert state.members.configuration is configurations.newest, "R12: the newest configuration is in force"
    changes = configurations.changes()
    assert not changes or changes[0][0] > log.applied, "R12: the history begins with what is applied"
    low = max(log.first_index(), log.applied + 1, log.last_index - TAIL_ENTRIES_CHECKED)
    found = [e.index for e in _entries(log, low, log.last_index) if e.kind is EntryKind.CONFIGURATION]
    known = [index for index, _ in changes if index >= low]
    assert known == found, "R12: the configurations are those of the log"


def _check_role(state: NodeState) -> None:
    ticks = state.config.election_ticks
    assert state.election_deadline < 2 * ticks + 1, "R11: the deadline is at most twice the timeout"
    if state.role is Role.LEADER:
        assert state.leader == state.vote == state.node_id, "R7: a leader leads and voted for itself"
        assert state.election_elapsed < ticks, "R11: a leader asks in time whether a quorum listens"
    if state.role is Role.CANDIDATE:
        assert state.vote == state.node_id, "R2: a candidate has voted for itself"
    if state.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        assert state.leader is None, "a candidate knows no leader"
        assert state.members.tally(state.votes) is VoteResult.PENDING, "a decided vote has an outcome"
    if state.role is not Role.LEADER:
        assert state.transferee is None, "only a leader hands over"
        assert not len(state.reads), "R13: only a leader has reads that wait"
        assert not state.uncommitted_bytes, "R13: only a leader counts uncommitted bytes"


def _check_leader(state: NodeState) -> None:
    log, members = state.log, state.members
    assert log.snapshot is None, "a leader's log is not being replaced"
    if not members.own_counts:
        assert state.configurations.index > log.commit, "R7: who is removed leads until that is committed"
    own = members.own
    if own is not None:
        assert own.match <= log.stable, "R8: a leader counts itself up to what is durable"
    if state.transferee is not None:
        assert members.is_voter(state.transferee), "R7: only a voter can take over"
    for progress in members.followers:
        assert 0 <= progress.match < progress.next, "R7: match < next"
        assert progress.match <= log.last_index, "R7: nobody has more than the leader"
        assert progress.next <= log.last_index + 1, "R7: next <= last + 1"
        assert len(progress.inflights) <= progress.inflights.messages_max, "R13: inflight window"
        if progress.state is not ProgressState.REPLICATE:
            assert len(progress.inflights) == 0, "R13: only REPLICATE has messages in flight"
        if progress.state is ProgressState.SNAPSHOT:
            assert progress.next > progress.pending_snapshot, "R7: next follows the snapshot"
    if log.commit >= state.term_start:
        _check_commit_of_leader(state)


def _check_commit_of_leader(state: NodeState) -> None:
    log, configurations = state.log, state.configurations
    pending = [index for index, _ in configurations.changes() if index > log.commit]
    assert len(pending) <= 1, "R12: one change of the configuration at a time"
    if not pending:
        agreed = state.members.agreed_index()
        assert agreed >= log.commit, "R8: a quorum has what is committed"


class ClusterChecker:
    """Checks across all nodes, over a whole run. Call `check` after every step; `forget` on a restart."""

    def __init__(self) -> None:
        self.leaders: dict[Term, NodeId] = {}
        self.committed: dict[Index, tuple[Term, bytes, EntryKind]] = {}
        self._committed_last: Index = 0
        self._committed_in: dict[Index, Term] = {}
        self.configuration: Configuration | None = None  # of the newest committed entry that holds one
        self._entries: dict[tuple[Index, Term], tuple[Term, bytes, EntryKind]] = {}
        self._checked_commit: dict[NodeId, Index] = {}

    def forget(self, node: NodeId) -> None:
        """Take `node` for a new incarnation."""
        self._checked_commit.pop(node, None)

    def check(self, nodes: Iterable[RaftNode], storages: Mapping[NodeId, LogStorage] | None = None) -> None:
        """Check the safety properties of Raft Figure 3, and durability if the disks are given."""
        for node in nodes:
            self._check_matching(node)
            self._check_commits(node, storages)
            self._check_changes(node)
            if node.is_leader:
                self._check_leader(node)

    def _check_leader(self, node: RaftNode) -> None:
        state = node.state
        known = self.leaders.get(state.term)
        if known == state.node_id:
            return
        assert known is None, f"G1: {known} and {state.node_id} both lead term {state.term}"
        self.leaders[state.term] = state.node_id
        log = state.log
        for index in range(self._committed_last, log.first_index() - 1, -1):
            if self._committed_in.get(index, state.term) >= state.term:
                continue
            assert log.matches(index, self.committed[index][0]), f"G3: {state.node_id} lacks entry {index}"
            break  # Log matching covers what lies before.

    def _check_matching(self, node: RaftNode) -> None:
        """G2: an index and a term name one entry, with one predecessor."""
        log = node.state.log
        low = max(log.first_index(), min(self._checked_commit.get(node.state.node_id, 0), log.last_index) + 1)
        previous = log.term(low - 1)
        for entry in _entries(log, low, log.last_index):
            value = (previous, entry.data, entry.kind)
            seen = self._entries.setdefault((entry.index, entry.term), value)
            assert seen == value, f"G2: two entries are ({entry.index}, {entry.term})"
            previous = entry.term

    def _check_commits(self, node: RaftNode, storages: Mapping[NodeId, LogStorage] | None) -> None:
        """G4: what one node has committed, no other node commits differently."""
        state, log = node.state, node.state.log
        start = max(self._checked_commit.get(state.node_id, 0) + 1, log.first_index())
        for entry in _entries(log, start, log.commit):
            value = (entry.term, entry.data, entry.kind)
            known = self.committed.get(entry.index)
            if known is None:
                self.committed[entry.index] = value
                self._committed_in[entry.index] = state.term
                self._committed_last = max(self._committed_last, entry.index)
                if storages is not None:
                    self._check_durable(node, entry, storages)
                if entry.kind is EntryKind.CONFIGURATION:
                    self._check_succession(node, entry)
            else:
                assert known == value, f"G4: two entries are committed at {entry.index}"
        self._checked_commit[state.node_id] = max(log.commit, start - 1)

    def _check_succession(self, node: RaftNode, entry: Entry) -> None:
        """G10: no quorum of a committed configuration misses one of the next."""
        configurations = node.state.configurations
        following = configurations.decode(entry.data)
        current = self.configuration or configurations.as_of(entry.index - 1)
        self.configuration = following
        if current.voters:
            assert quorums_meet(current, following), f"G10: {following} comes right after {current}"

    def _check_changes(self, node: RaftNode) -> None:
        """R12: in no log are there two changes of which neither is committed."""
        log = node.state.log
        changes = node.state.configurations.changes()
        if len(changes) < 2:
            return
        open_ends = [index for index, _ in changes if self.committed.get(index, (0,))[0] != log.term(index)]
        assert len(open_ends) <= 1, f"R12: {node.state.node_id} has changes that overlap: {open_ends}"

    def _check_durable(self, node: RaftNode, entry: Entry, storages: Mapping[NodeId, LogStorage]) -> None:
        """G5: what is committed is on the disks of a quorum."""
        has = {}
        for name, storage in storages.items():
            compacted = entry.index < storage.first_index()
            has[name] = compacted or (
                entry.index <= storage.last_index() and storage.term(entry.index) == entry.term
            )
        won = node.state.members.tally(has) is VoteResult.WON
        assert won, f"G5: entry {entry.index} is committed and not durable at a quorum: {has}"


def quorums_meet(first: Configuration, second: Configuration) -> bool:
    """Say whether every quorum of the one has a member in every quorum of the other. Tries them all."""
    names = sorted({*first.voters, *first.voters_outgoing, *second.voters, *second.voters_outgoing})
    for bits in range(1 << len(names)):
        votes = {name: bool(bits >> place & 1) for place, name in enumerate(names)}
        others = {name: not vote for name, vote in votes.items()}
        if _wins(first, votes) and _wins(second, others):
            return False
    return True


def _wins(configuration: Configuration, votes: Mapping[NodeId, bool]) -> bool:
    return joint_vote(configuration.voters, configuration.voters_outgoing, votes) is VoteResult.WON


def _entries(log: Log, first: Index, last: Index) -> Iterable[Entry]:
    while first <= last:
        page = log.slice(first, last + 1, 1 << 20)
        yield from page
        first += len(page)
