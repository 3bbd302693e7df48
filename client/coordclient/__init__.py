"""Client SDK of coordsvc: znodes, sessions, watches, locks, elections, service discovery."""

import logging

from coordclient.blocking import Client, Transaction, Watch
from coordclient.client import AsyncClient
from coordclient.errors import (
    AccessDeniedError,
    BadVersionError,
    CheckFailedError,
    ClientClosedError,
    ClientStateError,
    CompareFailedError,
    ConnectionLostError,
    CoordError,
    ForkedClientError,
    GuardFailedError,
    HistoryTrimmedError,
    InstanceTakenError,
    InvalidArgumentError,
    InvalidPathError,
    LimitExceededError,
    LockLostError,
    LockRevokedError,
    LockTimeoutError,
    MalformedError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotConnectedError,
    NotEmptyError,
    OutcomeUnknownError,
    RecipeError,
    RequestError,
    RequestTimeoutError,
    SessionExpiredError,
    SessionRequiredError,
    TooManyWatchesError,
    TransactionError,
    WrongLoopError,
)
from coordclient.recipes.blocking import Election, LeaderTerm, Lock, LockHandle, Registration, ServiceRegistry
from coordclient.recipes.election import AsyncElection, Term
from coordclient.recipes.grants import Loss
from coordclient.recipes.lock import AsyncLock, AsyncLockHandle, Contender
from coordclient.recipes.service_registry import AsyncRegistration, AsyncServiceRegistry
from coordclient.states import State
from coordclient.transactions import AsyncTransaction
from coordclient.types import Consistency, Event, EventType, Instance, Leader, Node, Stat
from coordclient.watches import WatchStream

logging.getLogger("coordclient").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "Client",
    "AsyncClient",
    "State",
    "Consistency",
    "Event",
    "EventType",
    "Instance",
    "Leader",
    "Node",
    "Stat",
    "Watch",
    "WatchStream",
    "Transaction",
    "AsyncTransaction",
    "Lock",
    "LockHandle",
    "AsyncLock",
    "AsyncLockHandle",
    "Contender",
    "Loss",
    "Election",
    "LeaderTerm",
    "AsyncElection",
    "Term",
    "ServiceRegistry",
    "Registration",
    "AsyncServiceRegistry",
    "AsyncRegistration",
    "CoordError",
    "RequestError",
    "AccessDeniedError",
    "BadVersionError",
    "CheckFailedError",
    "CompareFailedError",
    "GuardFailedError",
    "HistoryTrimmedError",
    "InvalidArgumentError",
    "InvalidPathError",
    "LimitExceededError",
    "MalformedError",
    "NoChildrenForEphemeralsError",
    "NodeExistsError",
    "NoNodeError",
    "NotEmptyError",
    "SessionRequiredError",
    "TooManyWatchesError",
    "TransactionError",
    "SessionExpiredError",
    "ConnectionLostError",
    "OutcomeUnknownError",
    "RequestTimeoutError",
    "ClientStateError",
    "ClientClosedError",
    "ForkedClientError",
    "NotConnectedError",
    "WrongLoopError",
    "RecipeError",
    "InstanceTakenError",
    "LockLostError",
    "LockRevokedError",
    "LockTimeoutError",
]
