"""Which messages from outside are heard at all: their shape, and Raft's rules about terms. Raft §5.1.

Rule of this file: it never raises. A message that no correct member can have sent is refused and counted.
"""

from __future__ import annotations

from coordsvc.raft.membership import ConfigurationError, validate_configuration
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.state import NodeState
from coordsvc.raft.types import Entry, EntryKind, Index, Term

_UNBOUND = frozenset({MessageType.READ_INDEX, MessageType.TRANSFER_LEADER})
_CONFIGURATION = EntryKind.CONFIGURATION  # looked up once: every entry that arrives is asked
_FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})


def is_sound(state: NodeState, message: Message) -> bool:
    """Say whether `message` has a shape that a correct member can have given it."""
    kind = message.type
    if message.target != state.node_id or not message.source:
        return False
    if kind in _UNBOUND:
        return message.term == 0 and message.index >= 0
    if message.source == state.node_id:
        return False
    if message.term < 1 and not (kind is MessageType.PRE_VOTE_RESPONSE and message.reject):
        return False  # Only a member that never saw an election may refuse a pre-vote in term 0.
    if message.index < 0 or message.commit < 0 or message.log_term < 0 or message.reject_hint < 0:
        return False
    if kind is MessageType.APPEND:
        return (
            (message.index == 0) == (message.log_term == 0)
            and _are_contiguous(message.entries, message.index, message.log_term, message.term)
            and _have_sound_configurations(state, message.entries)
        )
    if kind is MessageType.SNAPSHOT:
        return _has_sound_snapshot(message)
    return True


def _are_contiguous(entries: list[Entry], index: Index, term: Term, term_max: Term) -> bool:
    """Say whether `entries` follow (`index`, `term`) without a gap, terms not decreasing up to `term_max`."""
    for entry in entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= term_max and (not entries or entries[0].term > 0)


def _have_sound_configurations(state: NodeState, entries: list[Entry]) -> bool:
    for entry in entries:
        if entry.kind is _CONFIGURATION:
            try:
                state.configurations.decode(entry.data)
            except ConfigurationError:
                return False
    return True


def _has_sound_snapshot(message: Message) -> bool:
    metadata = message.snapshot
    if metadata is None or metadata.index < 1 or not 1 <= metadata.term <= message.term:
        return False
    try:
        validate_configuration(metadata.configuration)
    except ConfigurationError:
        return False
    return True


def admit(state: NodeState, message: Message) -> bool:
    """Apply the rules about terms; True if the message is to be handled in the term that we are in now."""
    term = message.term
    if term == state.term:
        return _is_from_the_leader(state, message)
    if term == 0:
        return True
    if term > state.term:
        return _admit_newer(state, message)
    _answer_older(state, message)
    return False


def _is_from_the_leader(state: NodeState, message: Message) -> bool:
    """A term has one leader (election safety): nobody else may speak as it."""
    if message.type in _FROM_LEADER and state.leader is not None and state.leader != message.source:
        state.refuse()
        return False
    return True


def _admit_newer(state: NodeState, message: Message) -> bool:
    kind = message.type
    if kind is MessageType.PRE_VOTE or kind is MessageType.VOTE:
        # Who hears the leader does not help to depose it, unless the leader itself asks for that.
        if state.config.check_quorum and not message.transfer and state.hears_leader():
            return False
        if kind is MessageType.PRE_VOTE:
            return True  # Speaks of a term that nobody has entered yet.
    elif kind is MessageType.PRE_VOTE_RESPONSE and not message.reject:
        return True
    state.become_follower(message.term, message.source if kind in _FROM_LEADER else None)
    return True


def _answer_older(state: NodeState, message: Message) -> None:
    """Tell a member of an older term of ours, where silence would leave it, or us, stuck."""
    kind = message.type
    if kind is MessageType.APPEND or kind is MessageType.HEARTBEAT:
        # With vote withholding nobody listens to our higher term until this leader steps down.
        if state.config.check_quorum or state.config.pre_vote:
            # A rejection at index 0 is stale to any leader, also if the receiver leads our term by then.
            state.promise(
                Message(
                    MessageType.APPEND_RESPONSE, state.node_id, message.source, term=state.term, reject=True
                )
            )
    elif kind is MessageType.PRE_VOTE:
        # Else a pre-candidate with an older term could wait for ever (etcd#8501).
        state.promise(
            Message(
                MessageType.PRE_VOTE_RESPONSE, state.node_id, message.source, term=state.term, reject=True
            )
        )
