"""Client SDK of coordsvc: znodes, sessions, watches, and recipes from locks to service discovery."""

import logging

import coordclient.grpc_settings  # noqa: F401  # before anything that imports gRPC

# isort: split
from coordclient.blocking import Transaction, Watch
from coordclient.blocking_client import Client
from coordclient.client import AsyncClient
from coordclient.errors import (
    AccessDeniedError,
    AlreadyHeldError,
    BadVersionError,
    CheckFailedError,
    ClientClosedError,
    ClientStateError,
    CompareFailedError,
    ConnectionLostError,
    CoordError,
    CounterRangeError,
    ForkedClientError,
    GuardFailedError,
    HistoryTrimmedError,
    InstanceTakenError,
    InvalidArgumentError,
    InvalidPathError,
    InvalidValueError,
    LimitExceededError,
    LockLostError,
    LockRevokedError,
    LockTimeoutError,
    MalformedError,
    MemberNameTakenError,
    MismatchError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoInstanceError,
    NoNodeError,
    NotConnectedError,
    NotEmptyError,
    OutcomeUnknownError,
    RecipeError,
    RecipeTimeoutError,
    RequestError,
    RequestTimeoutError,
    SessionExpiredError,
    SessionRequiredError,
    TooManyWatchesError,
    TransactionError,
    WrongLoopError,
)
from coordclient.recipes.atomic_commit import AsyncAtomicCommit, AtomicCommit
from coordclient.recipes.barrier import AsyncBarrier, Barrier
from coordclient.recipes.barrier_entry import AsyncBarrierRound
from coordclient.recipes.claims import AsyncClaim, Claim
from coordclient.recipes.commit_records import Decision, Proposal
from coordclient.recipes.config_value import AsyncConfigValue, ConfigValue
from coordclient.recipes.contenders import Contender
from coordclient.recipes.counter import AsyncCounter, Counter
from coordclient.recipes.counter_steps import CounterChange
from coordclient.recipes.double_barrier import AsyncDoubleBarrier, BarrierRound, DoubleBarrier
from coordclient.recipes.election import AsyncElection, Election, LeaderTerm, Term
from coordclient.recipes.faces import BlockingGrant
from coordclient.recipes.grants import Grant, Loss
from coordclient.recipes.group import AsyncGroup, AsyncMembership, Group, Membership
from coordclient.recipes.group_views import GroupView
from coordclient.recipes.lock import AsyncLock, AsyncLockHandle, Lock, LockHandle
from coordclient.recipes.mirror import CacheChange
from coordclient.recipes.partition_holdings import Assigned, AsyncPartitionHandle, Revoked
from coordclient.recipes.partitioner import AsyncPartitioner, Partitioner, PartitionHandle
from coordclient.recipes.queue import AsyncQueue, Queue, QueueItem
from coordclient.recipes.read_write_lock import (
    AsyncReadHandle,
    AsyncReadLock,
    AsyncReadWriteLock,
    AsyncWriteHandle,
    AsyncWriteLock,
    ReadHandle,
    ReadLock,
    ReadWriteLock,
    WriteHandle,
    WriteLock,
)
from coordclient.recipes.semaphore import AsyncPermit, AsyncSemaphore, Permit, Semaphore
from coordclient.recipes.service_checks import Check, CheckResult, PeriodicCheck
from coordclient.recipes.service_health import CallableCheck, GrpcCheck, HttpCheck, TcpCheck, TtlCheck
from coordclient.recipes.service_instances import Instances
from coordclient.recipes.service_pool import AsyncServicePool, ServicePool, Use
from coordclient.recipes.service_registration import AsyncRegistration, Registration
from coordclient.recipes.service_registry import AsyncServiceRegistry, ServiceRegistry
from coordclient.recipes.signals import BlockingSignal, Signal
from coordclient.recipes.tree_cache import AsyncTreeCache, TreeCache
from coordclient.recipes.work_queue import AsyncWorkQueue, ClaimInfo, DeadLetter, WorkQueue
from coordclient.states import State
from coordclient.transactions import AsyncTransaction
from coordclient.types import (
    Checked,
    Consistency,
    Created,
    Deleted,
    Event,
    EventType,
    Instance,
    Leader,
    Node,
    Stat,
    Status,
)
from coordclient.watches import WatchStream

logging.getLogger("coordclient").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "Client",
    "AsyncClient",
    "State",
    "Consistency",
    "Node",
    "Stat",
    "Event",
    "EventType",
    "Created",
    "Checked",
    "Deleted",
    "Leader",
    "Instance",
    "Status",
    "Watch",
    "Transaction",
    "WatchStream",
    "AsyncTransaction",
    "Grant",
    "Loss",
    "BlockingGrant",
    "Signal",
    "BlockingSignal",
    "Contender",
    "Lock",
    "LockHandle",
    "AsyncLock",
    "AsyncLockHandle",
    "ReadWriteLock",
    "ReadLock",
    "WriteLock",
    "ReadHandle",
    "WriteHandle",
    "AsyncReadWriteLock",
    "AsyncReadLock",
    "AsyncWriteLock",
    "AsyncReadHandle",
    "AsyncWriteHandle",
    "Semaphore",
    "Permit",
    "AsyncSemaphore",
    "AsyncPermit",
    "Election",
    "LeaderTerm",
    "AsyncElection",
    "Term",
    "Barrier",
    "AsyncBarrier",
    "DoubleBarrier",
    "BarrierRound",
    "AsyncDoubleBarrier",
    "AsyncBarrierRound",
    "Counter",
    "AsyncCounter",
    "CounterChange",
    "Queue",
    "AsyncQueue",
    "QueueItem",
    "WorkQueue",
    "AsyncWorkQueue",
    "ClaimInfo",
    "DeadLetter",
    "Claim",
    "AsyncClaim",
    "Group",
    "Membership",
    "AsyncGroup",
    "AsyncMembership",
    "GroupView",
    "Partitioner",
    "PartitionHandle",
    "AsyncPartitioner",
    "AsyncPartitionHandle",
    "Assigned",
    "Revoked",
    "ConfigValue",
    "AsyncConfigValue",
    "TreeCache",
    "AsyncTreeCache",
    "CacheChange",
    "ServiceRegistry",
    "AsyncServiceRegistry",
    "Registration",
    "AsyncRegistration",
    "Instances",
    "ServicePool",
    "AsyncServicePool",
    "Use",
    "Check",
    "CheckResult",
    "PeriodicCheck",
    "HttpCheck",
    "TcpCheck",
    "GrpcCheck",
    "TtlCheck",
    "CallableCheck",
    "AtomicCommit",
    "AsyncAtomicCommit",
    "Proposal",
    "Decision",
    "CoordError",
    "RequestError",
    "NoNodeError",
    "NodeExistsError",
    "BadVersionError",
    "NotEmptyError",
    "NoChildrenForEphemeralsError",
    "InvalidPathError",
    "InvalidArgumentError",
    "GuardFailedError",
    "CheckFailedError",
    "TransactionError",
    "CompareFailedError",
    "AccessDeniedError",
    "LimitExceededError",
    "TooManyWatchesError",
    "SessionRequiredError",
    "HistoryTrimmedError",
    "MalformedError",
    "SessionExpiredError",
    "ConnectionLostError",
    "OutcomeUnknownError",
    "RequestTimeoutError",
    "ClientStateError",
    "NotConnectedError",
    "ClientClosedError",
    "ForkedClientError",
    "WrongLoopError",
    "RecipeError",
    "LockLostError",
    "RecipeTimeoutError",
    "LockTimeoutError",
    "LockRevokedError",
    "AlreadyHeldError",
    "MismatchError",
    "MemberNameTakenError",
    "InstanceTakenError",
    "NoInstanceError",
    "CounterRangeError",
    "InvalidValueError",
]
