"""What makes a change of the membership possible, and what it leads to.

Rule of this file: functions of a configuration and a change; who leads, and who is reachable, is not asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from coordsvc.codec.addresses import (
    WILDCARD_HOSTS,
    AddressFormError,
    check_host_and_port,
    is_loopback,
    split_host_and_port,
)
from coordsvc.codec.cluster_configuration import (
    MEMBERS_MAX,
    ClusterConfiguration,
    MemberRecord,
    explain_bad_record,
)
from coordsvc.raft.types import NodeId
from coordsvc.replica.changes import (
    AddMember,
    Change,
    ChangeRequest,
    JoinMember,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)
from coordsvc.statemachine.results import ErrorCode, Failure


def describe(change: Change) -> str:
    """A change in words, for people."""
    match change:
        case AddMember():
            return f"add {change.name}"
        case RemoveMember():
            return f"remove {change.name}"
        case PromoteMember():
            return f"promote {change.name}"
        case ReplaceMember():
            return f"replace {change.name} by {change.by}"
        case JoinMember():
            return f"join {change.name or change.peer_address}"


def target_of(
    request: ChangeRequest, in_force: ClusterConfiguration
) -> tuple[set[NodeId], set[NodeId], tuple[MemberRecord, ...]]:
    """Who votes, who learns, and everybody's records, the new one included, once the change is complete."""
    voters, learners = set(in_force.raft.voters), set(in_force.raft.learners)
    records = in_force.members
    change = request.change
    match change:
        case AddMember():
            learners.add(change.name)
            records += (MemberRecord(change.name, change.peer_address),)
        case RemoveMember():
            voters.discard(change.name)
            learners.discard(change.name)
        case PromoteMember():
            voters.add(change.name)
            learners.discard(change.name)
        case ReplaceMember():
            voters.discard(change.name)
            voters.add(change.by)
            learners.discard(change.by)
        case JoinMember():
            name = request.name
            if name not in voters:
                learners.add(name)
            joined = MemberRecord(name, change.peer_address, change.client_address, change.member_id)
            records = (*(record for record in records if record.name != name), joined)
            records = tuple(sorted(records, key=lambda record: record.name))
    return voters, learners, records


def choose_name(in_force: ClusterConfiguration, change: JoinMember) -> NodeId:
    """The name under which this disk is known already, or the first free one."""
    for record in in_force.members:
        if record.member_id == change.member_id:
            return record.name
    taken = {record.name for record in in_force.members}
    number = 1
    while f"coordsvc-{number}" in taken:
        number += 1
    return f"coordsvc-{number}"


def without_clashes(
    records: tuple[MemberRecord, ...], news: tuple[MemberRecord, ...]
) -> tuple[MemberRecord, ...]:
    """What members have said of themselves, but a peer address that another one has stays as it was.

    Two that were started with the same address would be dialled as one, and who joins is told of both.
    """
    before = {record.name: record.peer_address for record in records}
    while True:
        taken = Counter(record.peer_address for record in news)
        clashing = {
            record.name
            for record in news
            if taken[record.peer_address] > 1 and record.peer_address != before[record.name]
        }
        if not clashing:
            return news
        news = tuple(
            replace(record, peer_address=before[record.name]) if record.name in clashing else record
            for record in news
        )


def explain_unfit_joiner(name: NodeId, change: JoinMember, in_force: ClusterConfiguration) -> Failure | None:
    if change.member_id == 0:
        return Failure(ErrorCode.INVALID_ARGUMENT, "a server that joins names its data directory by an id")
    known = in_force.record(name)
    if known is not None and known.member_id not in (0, change.member_id):
        message = (
            f"a member named {name} exists already with another data directory: "
            "remove it first, or choose another --name"
        )
        return Failure(ErrorCode.NODE_EXISTS, message)
    if known is not None and known.member_id == 0 and name in in_force.raft.voters:
        message = (
            f"{name} is a voting member, and begins with the cluster: start it without --join; "
            "or, if it has lost its disk, remove it first"
        )
        return Failure(ErrorCode.NODE_EXISTS, message)
    for record in in_force.members:
        if record.name != name and record.member_id == change.member_id:
            message = f"this data directory is that of member {record.name}: it cannot join as {name} too"
            return Failure(ErrorCode.INVALID_ARGUMENT, message)
    joiner = MemberRecord(name, change.peer_address, change.client_address, change.member_id)
    return explain_unfit(joiner, in_force, is_new=known is None)


def explain_unfit(record: MemberRecord, in_force: ClusterConfiguration, *, is_new: bool) -> Failure | None:
    """Say why a member with this name and these addresses cannot be there."""
    problem = explain_bad_record(record) or _explain_bad_addresses(record)
    if problem:
        return Failure(ErrorCode.INVALID_ARGUMENT, problem)
    for one in (record, *in_force.members):
        if split_host_and_port(one.peer_address)[0] in WILDCARD_HOSTS:
            message = (
                f"nobody can reach member {one.name} at {one.peer_address}: start it with --advertise-peer "
                "HOST:PORT (and, if it has data, without --initial-cluster)"
            )
            return Failure(ErrorCode.INVALID_ARGUMENT, message)
    elsewhere = [other for other in in_force.members if other.name != record.name]
    far_apart = _explain_far_apart(record, elsewhere)
    if far_apart:
        return Failure(ErrorCode.INVALID_ARGUMENT, far_apart)
    if is_new and in_force.record(record.name) is not None:
        return Failure(ErrorCode.NODE_EXISTS, f"there is a member named {record.name} already")
    for other in elsewhere:
        if other.peer_address == record.peer_address:
            message = f"{record.peer_address} is the address of member {other.name}"
            return Failure(ErrorCode.NODE_EXISTS, message)
    if is_new and len(in_force.members) >= MEMBERS_MAX:
        return Failure(ErrorCode.LIMIT_EXCEEDED, f"a cluster has {MEMBERS_MAX} members at most")
    return None


def _explain_bad_addresses(record: MemberRecord) -> str:
    """Once in the log an address is dialled by everybody, so it is looked at more closely before."""
    try:
        check_host_and_port(record.peer_address)
        if record.client_address:
            check_host_and_port(record.client_address)
    except AddressFormError as error:
        return f"member {record.name}: {error}"
    return ""


def _explain_far_apart(record: MemberRecord, others: list[MemberRecord]) -> str:
    """Say who could not be dialled by the rest: an address that is good on one machine only, among others.

    One member in such a place must not keep the rest from taking in another in its stead.
    """
    is_local = _is_local(record)
    apart = [other for other in others if _is_local(other) is not is_local]
    if not apart or (not is_local and len(apart) < len(others)):
        return ""
    local, remote = (record, apart[0]) if is_local else (apart[0], record)
    return (
        f"member {local.name} at {local.peer_address} can be reached on its own machine only, and member "
        f"{remote.name} is at {remote.peer_address}: start {local.name} with --advertise-peer HOST:PORT "
        "(and, if it has data, without --initial-cluster)"
    )


def _is_local(record: MemberRecord) -> bool:
    return is_loopback(split_host_and_port(record.peer_address)[0])


def no_member(name: NodeId, in_force: ClusterConfiguration, advice: str = "") -> Failure:
    names = ", ".join(record.name for record in in_force.members)
    return Failure(ErrorCode.INVALID_ARGUMENT, f"there is no member {name!r:.80}, only {names}{advice}")
