"""A simulated member's start: what its disk holds is checked and made into a replica.

Rule of this file: it follows `coordsvc.server.opening` line by line; what that refuses is refused here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from coordsvc.codec.cluster_configuration import (
    NOBODY,
    ClusterConfiguration,
    MemberRecord,
    decode_cluster_configuration,
    decode_raft_configuration,
    encode_cluster_configuration,
    with_records,
)
from coordsvc.raft.node import RaftConfig
from coordsvc.raft.types import Configuration
from coordsvc.replica.core import Replica
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.recovery import recover_log
from tests.simulation.disk import SimulatedTree, draw_member_id
from tests.simulation.ledger import WatchedMachine
from tests.simulation.plan import ClusterPlan, Plan
from tests.simulation.resting import RestingNode
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.members import SimulatedMember


def peer_address(name: str) -> str:
    return f"{name}:7401"


def client_address(name: str) -> str:
    return f"{name}:7400"


def founding(plan: Plan, world: World) -> ClusterConfiguration:
    """The first configuration, which every founder is given; here some of them may only learn.

    Those have been known by the ids of their disks from the beginning: only voters may come without.
    """
    records = [MemberRecord(name, peer_address(name)) for name in plan.voters()]
    records += [
        MemberRecord(name, peer_address(name), member_id=draw_member_id(world, name))
        for name in plan.learners()
    ]
    return with_records(Configuration(plan.voters(), learners=plan.learners()), records)


def open_replica(member: SimulatedMember) -> Replica:
    """Open the disk of `member`; its `log`, `tree` and `machine` are set."""
    disk, cluster = member.disk, member.plan.cluster
    member.log = disk.log.copy()
    member.tree = SimulatedTree(disk.tree, lambda: disk.check("write"))
    machine = WatchedMachine(member.tree, member.limits, cluster.cache_bytes, member.ledger)
    member.machine = machine
    if machine.applied_index:
        machine.verify()
    recover_log(cast("LogStore", member.log), machine.applied_index, disk.installed)
    if member.log.start_index != disk.log.start_index:
        member.ledger.probes.hit("a crash came between the switch of the tree and the reset of the log")
        disk.log = member.log.copy()  # `reset_to` is synced
    if not disk.joined_index and not machine.configuration:
        machine.set_configuration(encode_cluster_configuration(founding(member.plan, member.world)))
    configuration = NOBODY
    if machine.configuration:
        configuration = decode_cluster_configuration(machine.configuration)
    hard_state = member.log.hard_state
    raft = RestingNode(
        _raft_config(member.name, cluster),
        member.log,
        replace(hard_state, commit=max(hard_state.commit, machine.applied_index)),
        configuration.raft,
        machine.applied_index,
        member.election_draw,
        decode_raft_configuration,
        (disk.joined_term, disk.joined_index),
    )
    if raft.configuration.voters == (member.name,) and not raft.configuration.voters_outgoing:
        raft.campaign()
    first_number = member.world.draw_below(1 << 48, "first-number", member.name, member.process()) << 14
    return Replica(
        member.name,
        raft,
        machine,
        _settings(cluster),
        client_address=client_address(member.name),
        first_number=first_number,
        member_id=disk.member_id,
        peer_address=peer_address(member.name),
        joined_index=disk.joined_index,
        contacts=disk.contacts,
    )


def _raft_config(name: str, cluster: ClusterPlan) -> RaftConfig:
    return RaftConfig(
        name,
        election_ticks=cluster.election_ticks,
        heartbeat_ticks=cluster.heartbeat_ticks,
        pre_vote=cluster.pre_vote,
        check_quorum=cluster.check_quorum,
        append_bytes_max=cluster.append_bytes_max,
        inflight_messages_max=cluster.inflight_messages_max,
        uncommitted_bytes_max=cluster.uncommitted_bytes_max,
        committed_bytes_max=cluster.committed_bytes_max,
        cached_bytes_max=cluster.cached_bytes_max,
    )


def _settings(cluster: ClusterPlan) -> ReplicaSettings:
    return ReplicaSettings(
        election_timeout_ms=cluster.election_ticks * cluster.tick_ms,
        entry_bytes_max=cluster.entry_bytes_max,
        session_timeout_ms_min=cluster.session_timeout_ms_min,
        inflight_per_session_max=cluster.inflight_per_session_max,
        watches_per_session_max=cluster.watches_per_session_max,
        catch_up_changes=cluster.catch_up_changes,
        digest_interval=cluster.digest_interval,
        disk_stall_ms=cluster.disk_stall_ms,
    )
