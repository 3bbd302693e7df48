"""Changes of the membership, carried out to their end, over changes of leader.

Rule of this file: a change whose outcome is not known is never repeated before a look at the members has
shown that it did not come about.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final, TypeVar

from coordclient.cli.leader_calls import LeaderCalls, Members
from coordclient.cli.progress import ProgressLine
from coordclient.errors import (
    Code,
    ConnectionLostError,
    OutcomeUnknownError,
    RequestError,
    RequestTimeoutError,
)
from coordproto.v1 import coordination_pb2

CAUGHT_UP_ENTRIES: Final = 1000  # behind the leader; the same as the service asks for
_IN_BETWEEN: Final = (coordination_pb2.JOINING_VOTER, coordination_pb2.LEAVING_VOTER)

Change = coordination_pb2.ChangeMembersRequest
IsDone = Callable[[Members], bool]
_T = TypeVar("_T")


def find_member(members: Members, name: str) -> coordination_pb2.MemberInfo | None:
    return next((found for found in members.members if found.name == name), None)


def change(calls: LeaderCalls, request: Change, is_done: IsDone) -> Members:
    """Carry a change out, and return the members after it.

    Raises:
        CoordError: What it was refused with, or that it did not come about, or is not known to, in time.
    """
    while True:
        try:
            return calls.ask(
                lambda stub, timeout_s: stub.ChangeMembers(request, timeout=timeout_s), changes=True
            )
        except (ConnectionLostError, OutcomeUnknownError):
            # The leader is gone, or has handed over because it is itself to be removed.
            if calls.is_over:
                raise
            calls.pause()
            members = _settled(calls)
            if is_done(members):
                return members


def _settled(calls: LeaderCalls) -> Members:
    """Wait for the end of a change that is under way; the service brings it about by itself."""
    members = calls.members()
    while any(found.role in _IN_BETWEEN for found in members.members) and not calls.is_over:
        calls.pause()
        members = calls.members()
    return members


def change_unless_done(calls: LeaderCalls, request: Change, is_done: IsDone) -> tuple[Members, bool]:
    """Carry a change out, unless it is refused and there is nothing left to do. Says whether that was so.

    A command that ended without an answer may be given again.

    Raises:
        CoordError: As `change` does.
    """
    try:
        return change(calls, request, is_done), False
    except RequestError as refusal:
        if refusal.code not in (Code.INVALID_ARGUMENT, Code.NODE_EXISTS):
            raise
        members = calls.members()
        if not is_done(members):
            raise
        return members, True


def change_if_agreed(
    calls: LeaderCalls, request: Change, is_done: IsDone, *, force: bool, agree: Callable[[str], bool]
) -> Members:
    """Carry a change out; if it would cost the quorum, `force` it, once somebody who heard so agrees.

    Raises:
        CoordError: As `change` does.
    """
    try:
        return change(calls, request, is_done)
    except RequestError as refusal:
        if refusal.code != Code.CHECK_FAILED:
            raise
        if not force:
            refusal.add_note("to go on all the same, add --force")
            raise
        if not agree(str(refusal)):
            raise RequestError("nothing was changed") from refusal
    forced = Change()
    forced.CopyFrom(request)
    forced.force = True
    return change(calls, forced, is_done)


def change_when_caught_up(
    calls: LeaderCalls, name: str, progress: ProgressLine, carry_out: Callable[[], _T]
) -> _T:
    """Carry a change out as soon as the learner `name`, which it makes a voter, has caught up.

    Raises:
        CoordError: As `carry_out` does, or that the learner has not caught up in time.
    """
    while True:
        _wait_until_caught_up(calls, name, progress)
        progress.clear()
        try:
            return carry_out()
        except RequestError as refusal:
            if refusal.code != Code.CATCHING_UP or calls.is_over:  # It may have fallen behind since the look.
                raise
        calls.pause()


def _wait_until_caught_up(calls: LeaderCalls, name: str, progress: ProgressLine) -> None:
    """Wait until a learner has nearly all of the log. Whether it is one is for the service to say.

    Raises:
        RequestError: There is no such member.
        RequestTimeoutError: It has not caught up in time.
    """
    while True:
        members = calls.members()
        found = find_member(members, name)
        if found is None:
            raise RequestError(_no_such_member(members, name))
        missing = members.last_index - found.match_index
        if found.role != coordination_pb2.LEARNER or (found.reachable and missing <= CAUGHT_UP_ENTRIES):
            return
        state = _how_far(found, members.last_index)
        if calls.is_over:
            raise RequestTimeoutError(f"{name} has not caught up within {calls.timeout_s:g} s: {state}")
        progress.show(f"waiting for {name}: {state}")
        calls.pause()


def _how_far(found: coordination_pb2.MemberInfo, last_index: int) -> str:
    if not found.started:
        return f"it has not been started yet (coordsvc serve --join ... --name {found.name})"
    if not found.reachable:
        return "it is not running, or the leader cannot reach it"
    share = found.match_index * 100 // max(1, last_index)
    return f"it has {found.match_index} of {last_index} entries, {share}%"


def _no_such_member(members: Members, name: str) -> str:
    names = [found.name for found in members.members]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"there is no member {name}; did you mean {near[0]}?"
    return f"there is no member {name}; the members are {', '.join(names)}"
