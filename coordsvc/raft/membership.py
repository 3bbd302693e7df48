"""Who counts: the configuration, the progress of its members, and their quorums. Raft §6.

Rule of this file: every quorum decision goes through here, and both halves of a joint configuration agree.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    if not outgoing and configuration.auto_leave:
        raise ConfigurationError("only a joint configuration can be left by itself")


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
        "progress",
    )

    def __init__(self, config: RaftConfig, configuration: Configuration) -> None:
        self._config = config
        self.progress: dict[NodeId, Progress] = {}
        self.switch(configuration, next_index=1)

    def switch(self, configuration: Configuration, next_index: Index) -> None:
        """Put `configuration` in force, with everything about its members forgotten."""
        validate_configuration(configuration)
        own_id = self._config.node_id
        self.configuration = configuration
        self.electorate = tuple(sorted({*configuration.voters, *configuration.voters_outgoing}))
        learners = frozenset(configuration.learners)
        self.progress = {}
        for node in sorted({*self.electorate, *learners}):
            inflights = Inflights(self._config.inflight_messages_max, self._config.inflight_bytes_max)
            self.progress[node] = Progress(node, inflights, is_learner=node in learners)
        self._incoming = [self.progress[node] for node in configuration.voters]
        self._outgoing = [self.progress[node] for node in configuration.voters_outgoing]
        self.followers = [progress for node, progress in self.progress.items() if node != own_id]
        self.own = self.progress.get(own_id)
        self.reset(next_index)

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
