"""Opening a member's data: lock, verify, recover, and build the pure cores over it.

Rule of this file: a member that finds anything that it cannot trust refuses to start, in one line
(promise G9); what it can complete after a crash it completes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from coordproto.v1 import peer_pb2
from coordsvc.codec.peer_messages import decode_configuration, encode_configuration
from coordsvc.config import ServerConfig
from coordsvc.raft.node import RaftConfig, RaftNode
from coordsvc.raft.types import Configuration
from coordsvc.replica.core import Replica
from coordsvc.replica.settings import ReplicaSettings
from coordsvc.statemachine.machine import StateMachine
from coordsvc.statemachine.types import Limits
from coordsvc.storage.data_directory import DataDirectory
from coordsvc.storage.log_store import LogStore
from coordsvc.storage.recovery import recover_log
from coordsvc.storage.tree_store import TreeStore

_FIRST_NUMBER_MAX = 1 << 48


@dataclass(slots=True)
class OpenedMember:
    directory: DataDirectory
    log: LogStore
    tree: TreeStore
    replica: Replica
    limits: Limits

    def close(self) -> None:
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
    )


def open_member(config: ServerConfig) -> OpenedMember:
    """Open and verify the data directory, and build the replica.

    Raises:
        StorageError: The directory cannot be used or trusted; the message is one line.
        CorruptStateError: The tree is not what its digest says.
    """
    directory = DataDirectory.open(config.data_dir, config.cluster_id, config.name)
    log = directory.open_log()
    tree = directory.open_tree()
    tree.verify_all()
    limits = limits_of(config)
    machine = StateMachine(tree, limits)
    if machine.applied_index:
        machine.verify()
    recover_log(log, machine.applied_index, directory.installed)
    if not machine.configuration:
        machine.set_configuration(
            encode_configuration(Configuration(tuple(config.members))).SerializeToString()
        )
    configuration = decode_configuration(peer_pb2.RaftConfiguration.FromString(machine.configuration))
    hard_state = log.hard_state
    hard_state = replace(hard_state, commit=max(hard_state.commit, machine.applied_index))
    dice = random.SystemRandom()
    raft = RaftNode(
        RaftConfig(
            config.name,
            election_ticks=config.election_ms // config.tick_ms,
            heartbeat_ticks=config.heartbeat_ms // config.tick_ms,
        ),
        log,
        hard_state,
        configuration,
        machine.applied_index,
        dice.randrange,
    )
    if configuration.voters == (config.name,):
        raft.campaign()  # There is nobody to wait for.
    replica = Replica(
        config.name,
        raft,
        machine,
        settings_of(config),
        client_address=config.advertise_client,
        first_number=dice.randrange(_FIRST_NUMBER_MAX) << 14,
    )
    return OpenedMember(directory, log, tree, replica, limits)
