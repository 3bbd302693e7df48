"""Changes of the membership that somebody asks for, and what becomes of them.

Rule of this file: values only.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordsvc.codec.cluster_configuration import ClusterConfiguration
from coordsvc.raft.types import Configuration, Index, NodeId, Term
from coordsvc.statemachine.results import Failure


@dataclass(frozen=True, slots=True)
class AddMember:
    """Register a learner that will be started later, with --join."""

    name: NodeId
    peer_address: str


@dataclass(frozen=True, slots=True)
class RemoveMember:
    name: NodeId


@dataclass(frozen=True, slots=True)
class PromoteMember:
    """A learner that has caught up becomes a voter."""

    name: NodeId


@dataclass(frozen=True, slots=True)
class ReplaceMember:
    """The learner `by`, that has caught up, takes the place of the voter `name`, which leaves; one step."""

    name: NodeId
    by: NodeId


@dataclass(frozen=True, slots=True)
class JoinMember:
    """A server asks to become a learner. An empty name: the leader chooses one."""

    name: NodeId
    peer_address: str
    client_address: str
    member_id: int


Change = AddMember | RemoveMember | PromoteMember | ReplaceMember | JoinMember


@dataclass(slots=True, eq=False)
class ChangeRequest:
    """A change on its way. It is settled when `failure` or `outcome` is there.

    Attributes:
        name: For `JoinMember` the name that was given or chosen.
        proposed: The index of its first configuration entry; 0 while it waits for its turn. A join has no
            other: this and `proposed_term` are where the new member's knowledge of its cluster begins.
        outcome: The configuration, applied and not joint, in which the change is complete.
        leader_hint: With a failure: the client address of the member to ask instead.
    """

    number: int
    change: Change
    force: bool
    name: NodeId
    proposed: Index = 0
    proposed_term: Term = 0
    target: Configuration | None = None
    is_committed: bool = False
    hands_over_until_ms: int = 0  # the leader itself is to go: somebody else leads first
    outcome: ClusterConfiguration | None = None
    failure: Failure | None = None
    leader_hint: str = ""

    @property
    def is_settled(self) -> bool:
        return self.outcome is not None or self.failure is not None
