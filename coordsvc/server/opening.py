"""Opening a member's data: lock, verify, recover, and build the pure cores over it.

Rule of this file: a member that finds anything that it cannot trust refuses to start, in one line
(promise G9); what it can complete after a crash it completes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from coordsvc.codec.cluster_configuration import (
    NOBODY,
    MemberRecord,
    decode_cluster_configuration,
    decode_raft_configuration,
    encode_cluster_configuration,
    founding_configuration,
)
from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.config import DEFAULT_NAME, ServerConfig, parse_members
from coordsvc.raft.node import LogStateError, RaftConfig, RaftNode
from coordsvc.replica.core import Replica
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.server.verifying import VERIFIED_BEFORE_SERVING_NODES, Verification
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from coordsvc.storage.data_directory import DataDirectory, StoredIdentity, read_identity
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.recovery import recover_log
from coordsvc.storage.tree_store import TreeStore

REAP_INTERVAL_MS = 1_000  # less where a cluster is quicker in all it does, as those of tests are

_FIRST_NUMBER_MAX = 1 << 48


@dataclass(slots=True)
class OpenedMember:
    directory: DataDirectory
    log: LogStore
    tree: TreeStore
    replica: Replica
    limits: Limits
    verification: Verification | None  # what is to be verified while it serves

    @property
    def identity(self) -> StoredIdentity:
        return self.directory.identity

    def close(self) -> None:
        if self.verification is not None:
            self.verification.snapshot.close()
        self.tree.close()
        self.log.close()
        self.directory.close()


def limits_of(config: ServerConfig) -> Limits:
    return Limits(history_changes=config.history_changes, history_bytes=config.history_bytes)


def settings_of(config: ServerConfig) -> ReplicaSettings:
    return ReplicaSettings(
        election_timeout_ms=config.election_ms,
        value_bytes_max=config.value_bytes_max,
        path_bytes_max=config.path_bytes_max,
        session_timeout_ms_min=config.session_timeout_ms_min,
        session_timeout_ms_max=config.session_timeout_ms_max,
        inflight_per_session_max=config.inflight_per_session_max,
        watches_per_session_max=config.watches_per_session_max,
        outgoing_bytes_max=config.connection_queue_bytes_max,
        reap_interval_ms=min(REAP_INTERVAL_MS, config.election_ms),
    )


def open_directory(config: ServerConfig, joined: StoredIdentity | None) -> DataDirectory:
    """Open the data directory; make it, if there is none, as what the settings or the cluster say.

    One that is in use knows who it belongs to; what is given nevertheless must not contradict it.
    """
    made_as = read_identity(config.data_dir) or joined
    if made_as is None:
        members = ",".join(f"{name}={address}" for name, address in config.members.items())
        made_as = StoredIdentity(config.cluster_id, config.name or DEFAULT_NAME, 0, members)
    return DataDirectory.open(
        config.data_dir,
        config.cluster_id if config.initial_cluster else made_as.cluster_id,
        config.name or made_as.member,
        members=made_as.members,
        member_id=made_as.member_id,
        joined_index=made_as.joined_index,
        joined_term=made_as.joined_term,
    )


def _settle_membership(machine: StateMachine, identity: StoredIdentity) -> tuple[MemberRecord, ...]:
    """Give a founder its first configuration. Returns whom a member that has joined can talk to first."""
    founding = founding_configuration(parse_members(identity.members))
    if identity.joined_index:
        return founding.members
    if not machine.configuration:
        machine.set_configuration(encode_cluster_configuration(founding))
    return ()


def _make_raft(
    config: ServerConfig,
    identity: StoredIdentity,
    log: LogStore,
    machine: StateMachine,
    dice: random.Random,
) -> RaftNode:
    """Build consensus over what is on disk; a lone voter begins to lead."""
    hard_state = replace(log.hard_state, commit=max(log.hard_state.commit, machine.applied_index))
    try:
        configuration = NOBODY
        if machine.configuration:
            configuration = decode_cluster_configuration(machine.configuration)
        raft = RaftNode(
            RaftConfig(
                identity.member,
                election_ticks=config.election_ms // config.tick_ms,
                heartbeat_ticks=config.heartbeat_ms // config.tick_ms,
            ),
            log,
            hard_state,
            configuration.raft,
            machine.applied_index,
            dice.randrange,
            decode_raft_configuration,
            (identity.joined_term, identity.joined_index),
        )
    except (MalformedFrame, LogStateError) as error:
        raise CorruptStateError(
            f"{config.data_dir}: what is kept of the cluster is damaged: {error}"
        ) from error
    if raft.configuration.voters == (identity.member,) and not raft.configuration.voters_outgoing:
        raft.campaign()  # There is nobody to wait for.
    return raft


def _verify(tree: TreeStore, machine: StateMachine) -> Verification | None:
    """Verify a small tree now; of a large one return what is to be verified while it serves."""
    if machine.node_count > VERIFIED_BEFORE_SERVING_NODES:
        snapshot = tree.snapshot()
        return Verification(snapshot, machine.verification(snapshot))
    tree.verify_all()
    if machine.applied_index:
        machine.verify()
    return None


def open_member(config: ServerConfig, joined: StoredIdentity | None = None) -> OpenedMember:
    """Open and verify the data directory, and build the replica.

    Args:
        joined: What the cluster told this server, which has just joined it.

    Raises:
        StorageError: The directory cannot be used or trusted; the message is one line.
        CorruptStateError: The tree is not what its digest says.
    """
    directory = open_directory(config, joined)
    identity = directory.identity
    log = directory.open_log()
    tree = directory.open_tree()
    limits = limits_of(config)
    machine = StateMachine(tree, limits)
    verification = _verify(tree, machine)
    recover_log(log, machine.applied_index, directory.installed)
    contacts = _settle_membership(machine, identity)
    dice = random.SystemRandom()
    raft = _make_raft(config, identity, log, machine, dice)
    replica = Replica(
        identity.member,
        raft,
        machine,
        settings_of(config),
        client_address=config.advertise_client,
        first_number=dice.randrange(_FIRST_NUMBER_MAX) << 14,
        member_id=identity.member_id,
        peer_address=config.advertise_peer,
        joined_index=identity.joined_index,
        contacts=contacts,
    )
    return OpenedMember(directory, log, tree, replica, limits, verification)
