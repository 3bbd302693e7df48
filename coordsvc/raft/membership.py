"""Who counts: the configuration, the progress of its members, and their quorums. Raft §6.

Rule of this file: every quorum decision goes through here, and both halves of a joint configuration agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from coordsvc.raft.config import RaftConfig
from coordsvc.raft.progress import Inflights, Progress
from coordsvc.raft.quorum import VoteResult, joint_index, joint_vote
from coordsvc.raft.types import Configuration, Index, NodeId


class ConfigurationError(ValueError):
    """A configuration that no cluster can have."""


def validate_configuration(configuration: Configuration) -> None:
    """Refuse a configuration that is not sorted, has no voters, or lets a member be two things at once."""
    outgoing = set(configuration.voters_outgoing)
    voters = set(configuration.voters) | outgoing
    if not configuration.voters:
        raise ConfigurationError("a configuration needs at least one voter")
    for name in ("voters", "voters_outgoing", "learners", "learners_next"):
        members: tuple[NodeId, ...] = getattr(configuration, name)
        if list(members) != sorted(set(members)):
            raise ConfigurationError(f"{name} must be sorted and without repetition: {members!r}")
        if "" in members:
            raise ConfigurationError(f"{name} holds an empty name")
    if not voters.isdisjoint(configuration.learners):
        raise ConfigurationError("a member is voter and learner at once")
    if not outgoing.issuperset(configuration.learners_next):
        raise ConfigurationError("learners_next must be outgoing voters")
    if not set(configuration.learners_next).isdisjoint(configuration.voters):
        raise ConfigurationError("a member is to be voter and learner at once")
    if not outgoing and configuration.auto_leave:
        raise ConfigurationError("only a joint configuration can be left by itself")


def is_joint(configuration: Configuration) -> bool:
    return bool(configuration.voters_outgoing)


def plan(current: Configuration, voters: AbstractSet[NodeId], learners: AbstractSet[NodeId]) -> Configuration:
    """Return the configuration to propose first on the way from `current` to these voters and learners.

    It is the last one too unless more than one voter comes or goes: then it is joint, and `leave` follows.

    Raises:
        ConfigurationError: There is no way.
    """
    if is_joint(current):
        raise ConfigurationError("another change of the membership is under way")
    target = Configuration(tuple(sorted(voters)), learners=tuple(sorted(learners)))
    validate_configuration(target)
    outgoing = set(current.voters)
    if len(voters ^ outgoing) <= 1:
        return target
    # An outgoing voter still votes, so it cannot be a learner before the joint configuration is left.
    return Configuration(
        target.voters,
        voters_outgoing=current.voters,
        learners=tuple(sorted(learners - outgoing)),
        learners_next=tuple(sorted(learners & outgoing)),
    )


def leave(joint: Configuration) -> Configuration:
    """Return the configuration that ends `joint`."""
    if not is_joint(joint):
        raise ConfigurationError("only a joint configuration can be left")
    return Configuration(joint.voters, learners=tuple(sorted({*joint.learners, *joint.learners_next})))


def is_successor(current: Configuration, following: Configuration) -> str:
    """Say why `following` must not come right after `current`; "" if it may.

    Every quorum of the one must meet every quorum of the other: so one voter comes or goes, or else the
    two overlap in a joint configuration. Raft §6, thesis §4.1, §4.3.
    """
    if not current.voters:
        return "this member does not know its cluster yet"
    if following.auto_leave:
        return "a joint configuration is left by an entry of its own"
    if is_joint(current):
        return "" if following == leave(current) else "a joint configuration can only be left"
    if is_joint(following):
        if following.voters_outgoing == current.voters:
            return ""
        return "the outgoing voters of a joint configuration must be those in force"
    if len(set(current.voters) ^ set(following.voters)) > 1:
        return "more than one voter comes or goes: that needs a joint configuration"
    return ""


class Membership:
    """The configuration in force, with one Progress for each of its members and for nobody else."""

    __slots__ = (
        "_config",
        "_incoming",
        "_outgoing",
        "configuration",
        "electorate",
        "followers",
        "own",
        "own_counts",
        "progress",
    )

    def __init__(self, config: RaftConfig, configuration: Configuration) -> None:
        """Begin with `configuration`, which may be empty: this node is not a member yet."""
        self._config = config
        self.electorate: tuple[NodeId, ...] = ()
        self.progress: dict[NodeId, Progress] = {}
        if configuration != Configuration(()):
            validate_configuration(configuration)
        self.switch(configuration, next_index=1)
        self.reset(next_index=1)

    def switch(self, configuration: Configuration, next_index: Index) -> None:
        """Put `configuration` in force. What is known of members that stay stays; the new are probed."""
        own_id = self._config.node_id
        voters_before, known = self.electorate, self.progress
        self.configuration = configuration
        self.electorate = tuple(sorted({*configuration.voters, *configuration.voters_outgoing}))
        self.progress = {}
        for node in sorted({*self.electorate, *configuration.learners}):
            progress = known.get(node) or self._begin(node, next_index)
            progress.is_learner = node in configuration.learners
            # A new voter counts as heard from for now: else a leader that adds it might give up at once.
            if node in self.electorate and node not in voters_before:
                progress.recent_active = True
            self.progress[node] = progress
        self._incoming = [self.progress[node] for node in configuration.voters]
        self._outgoing = [self.progress[node] for node in configuration.voters_outgoing]
        self.followers = [progress for node, progress in self.progress.items() if node != own_id]
        self.own = self.progress.get(own_id)
        self.own_counts = own_id in self.electorate

    def _begin(self, node: NodeId, next_index: Index) -> Progress:
        inflights = Inflights(self._config.inflight_messages_max, self._config.inflight_bytes_max)
        progress = Progress(node, inflights, is_learner=False)
        progress.reset(next_index)
        return progress

    def reset(self, next_index: Index) -> None:
        """Forget what is known of the members' logs: a new term begins."""
        for progress in self.progress.values():
            progress.reset(next_index)
            progress.recent_active = progress is self.own

    def is_voter(self, node: NodeId) -> bool:
        return node in self.electorate

    def is_sole_voter(self) -> bool:
        return self.electorate == (self._config.node_id,)

    def agreed_index(self) -> Index:
        """Return the largest index that a quorum has durably, by `match`."""
        if self._outgoing:
            return joint_index([p.match for p in self._incoming], [p.match for p in self._outgoing])
        return joint_index([p.match for p in self._incoming], [])

    def agreed_count(self, counts: Mapping[NodeId, int]) -> int:
        """Return the largest number that a quorum has reached in `counts`; absent is 0."""
        return joint_index(
            [counts.get(p.node, 0) for p in self._incoming], [counts.get(p.node, 0) for p in self._outgoing]
        )

    def tally(self, votes: Mapping[NodeId, bool]) -> VoteResult:
        return joint_vote(self.configuration.voters, self.configuration.voters_outgoing, votes)

    def quorum_is_active(self) -> bool:
        """Say whether a quorum, this node included, was heard from since the last call; then begin anew."""
        heard = {p.node: p.recent_active or p is self.own for p in self.progress.values()}
        for progress in self.followers:
            progress.recent_active = False
        return self.tally(heard) is VoteResult.WON
