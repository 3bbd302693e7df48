"""The refusals, each with the words that tell a person what happened and what to do.

Rule of this file: one function a kind of refusal, so that the same thing is always said the same way.
"""

from __future__ import annotations

from coordsvc.statemachine.paths import clip
from coordsvc.statemachine.results import ErrorCode, Failure


def invalid_path(path: str, reason: str) -> Failure:
    path = clip(path)
    return Failure(ErrorCode.INVALID_PATH, f"{path!r} is not a valid path: {reason}", path)


def invalid_argument(path: str, reason: str) -> Failure:
    return Failure(ErrorCode.INVALID_ARGUMENT, reason, clip(path))


def limit_exceeded(path: str, reason: str) -> Failure:
    return Failure(ErrorCode.LIMIT_EXCEEDED, reason, clip(path))


def no_node(path: str) -> Failure:
    path = clip(path, 4096)
    return Failure(ErrorCode.NO_NODE, f"there is no node {path}", path)


def no_parent(parent: str, path: str) -> Failure:
    parent = clip(parent, 4096)
    message = f"cannot create {clip(path, 4096)}: there is no {parent}; create it first, or ask for parents"
    return Failure(ErrorCode.NO_NODE, message, parent)


def node_exists(path: str) -> Failure:
    return Failure(ErrorCode.NODE_EXISTS, f"the node {path} exists already", path)


def bad_version(path: str, expected: int, actual: int) -> Failure:
    message = f"{path} has version {actual}, not {expected}: it was changed since you read it; read it again"
    return Failure(ErrorCode.BAD_VERSION, message, path, expected_version=expected, actual_version=actual)


def not_empty(path: str, children: int) -> Failure:
    count = "1 child" if children == 1 else f"{children} children"
    message = f"{path} has {count}; delete them first, or delete recursively"
    return Failure(ErrorCode.NOT_EMPTY, message, path)


def no_children_for_ephemerals(parent: str) -> Failure:
    return Failure(
        ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, f"{parent} is ephemeral and cannot have children", parent
    )


def session_required(path: str) -> Failure:
    path = clip(path, 4096)
    message = f"cannot create {path}: an ephemeral node needs a session, and this request has none"
    return Failure(ErrorCode.SESSION_REQUIRED, message, path)


def session_expired(session_id: int) -> Failure:
    # The same words for an unknown session and a wrong secret: they must not tell which numbers are in use.
    return Failure(
        ErrorCode.SESSION_EXPIRED, f"session {session_id} does not exist (any more); open a new one"
    )


def sequence_gap(last_sequence: int, sequence: int) -> Failure:
    message = (
        f"write {sequence} came too early: the session's next is {last_sequence + 1}; send again from there"
    )
    return Failure(ErrorCode.SEQUENCE_GAP, message)


def guard_failed(path: str, czxid: int, actual: int | None) -> Failure:
    path = clip(path, 4096)
    now = "it is gone" if actual is None else f"it was made anew by transaction {actual}"
    message = f"the guard {path}, created by transaction {czxid}, no longer holds: {now}"
    return Failure(ErrorCode.GUARD_FAILED, message, path)


def check_failed(path: str, reason: str) -> Failure:
    return Failure(ErrorCode.CHECK_FAILED, f"the check of {path} failed: {reason}", path)
