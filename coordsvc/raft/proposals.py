"""What enters the log through the leader: commands, and changes of who counts. Raft §5.3, §6; thesis §4.

Rule of this file: a proposal is appended as a whole, or refused and nothing has changed.
"""

from __future__ import annotations

from coordsvc.raft import replication
from coordsvc.raft.membership import ConfigurationError, is_successor
from coordsvc.raft.state import NodeState, Role
from coordsvc.raft.types import Entry, EntryKind, Index


class ProposalDropped(Exception):  # noqa: N818 - an expected outcome: nothing was appended
    """The proposal had no effect. `reason` is one of those below.

    CHANGE_PENDING is for configurations only: the last one is not committed yet, or this leader has not yet
    committed an entry of its own term.
    """

    NOT_LEADER = "not_leader"
    TRANSFERRING = "transferring"
    TOO_MUCH_UNCOMMITTED = "too_much_uncommitted"
    CHANGE_PENDING = "change_pending"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def propose(state: NodeState, data: list[bytes]) -> Index:
    """Append one entry for each item, in order; return the index of the last."""
    size = 0
    for item in data:
        size += len(item)
    _check(state, size)
    log = state.log
    if data:
        state.uncommitted_bytes += size
        term = state.term
        log.extend([Entry(index, term, item) for index, item in enumerate(data, log.last_index + 1)])
        state.append_due = True
    return log.last_index


def propose_configuration(state: NodeState, data: bytes) -> Index:
    """Append a configuration, which is in force from then on; return its index."""
    _check(state, len(data))
    log, configurations = state.log, state.configurations
    # Without an entry of this term committed, an earlier leader's change could be committed elsewhere:
    # quorums of two changes of which neither knows the other need not meet (the bug of 2015).
    if log.commit < state.term_start or not configurations.is_committed(log.commit):
        raise ProposalDropped(ProposalDropped.CHANGE_PENDING)
    following = configurations.decode(data)
    why_not = is_successor(configurations.newest, following)
    if why_not:
        raise ConfigurationError(why_not)
    state.uncommitted_bytes += len(data)
    entry = Entry(log.last_index + 1, state.term, data, EntryKind.CONFIGURATION)
    log.extend([entry])
    configurations.note_appended([entry])
    replication.switch_members(state, next_index=entry.index)
    return entry.index


def _check(state: NodeState, size: int) -> None:
    if state.role is not Role.LEADER:
        raise ProposalDropped(ProposalDropped.NOT_LEADER)
    if state.transferee is not None:
        raise ProposalDropped(ProposalDropped.TRANSFERRING)
    # One oversized proposal may pass while nothing else is pending; else it never could.
    uncommitted = state.uncommitted_bytes
    if uncommitted and size and uncommitted + size > state.config.uncommitted_bytes_max:
        raise ProposalDropped(ProposalDropped.TOO_MUCH_UNCOMMITTED)
