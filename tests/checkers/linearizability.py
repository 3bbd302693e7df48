"""Linearizability by search, blind to zxids: is there any order that explains what the clients were told?

The answers' numbers are not believed, so that the order check and this one cannot be wrong in the same way.
A tree is judged in parts: the subtrees below the root are independent of each other, unless a transaction
joins them. In each part the search looks for an order that respects real time and every session's own; times
and zxids within answers are ignored, and versions, counts, values, names and errors must agree.

Rule of this file: no false alarm; whatever cannot be judged makes the rules laxer, never stricter. The root
itself is not judged, nor are reads that asked for less than linearizable ones. A search that gave up is
reported as "C1?": it has not passed.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

from coordsvc.statemachine.commands import Create, Transaction, TransactionOp
from coordsvc.statemachine.results import Created, ErrorCode, Failure, TransactionResult
from tests.checkers.history import LINEARIZABLE, UNKNOWN, History, Operation, Request, Sync, Violation
from tests.checkers.judging import describe, is_answered
from tests.checkers.search import BUDGET, Call, Outcome, Verdict, search
from tests.checkers.subtrees import (
    EMPTY,
    Asked,
    Reaped,
    SessionOver,
    What,
    depends_on_zxids,
    is_believed,
    step,
    without_zxids,
)
from tests.checkers.tree import (
    CONTAINER,
    EPHEMERAL,
    EPHEMERAL_SEQUENTIAL,
    PERSISTENT,
    SEQUENTIAL,
    TTL,
    TTL_SEQUENTIAL,
    is_valid,
    parent_of,
)

GUESSES_MAX = 64
UNDECIDED = "C1?"

Part = list[Call[What]]
_PLAIN_MODES = {3: EPHEMERAL, 2: PERSISTENT, TTL_SEQUENTIAL: TTL}
_NEVER_JUDGED = (ErrorCode.INVALID_PATH, ErrorCode.INVALID_ARGUMENT, ErrorCode.SESSION_REQUIRED)


def check(history: History, budget: int = BUDGET) -> list[Violation]:
    """Return the parts for which there is no order, and those for which none was found in time."""
    found = [check_part(where, calls, budget) for where, calls in parts(history).items()]
    return [violation for violation in found if violation is not None]


def check_part(where: str, calls: Part, budget: int = BUDGET) -> Violation | None:
    """Search for an order of one part; None: there is one."""
    outcome = search(calls, EMPTY, step, budget)
    return None if outcome.verdict is Verdict.YES else _violation(where, calls, outcome)


def _violation(where: str, calls: Part, outcome: Outcome[What]) -> Violation:
    if outcome.verdict is Verdict.UNKNOWN:
        text = f"{where}: no order was found for {len(calls)} operations in {outcome.steps} steps"
        return Violation(UNDECIDED, text)
    operations = [call.what.operation for call in outcome.stuck if isinstance(call.what, Asked)]
    told = "".join(f"\n    {describe(operation)}" for operation in operations)
    text = f"{where}: no order explains the answers; none of these can be the next:{told}"
    return Violation("C1", text, list(operations))


# -- parts ------------------------------------------------------------------------------------------


def top(path: str) -> str:
    """Return the name below the root under which a path lies; empty for the root."""
    return path.split("/", 2)[1]


def _paths(operation: Operation, request: Request) -> list[str]:
    """Return every path on which an operation depends, but the root."""
    paths = [guard.path for guard in operation.guards]
    if isinstance(request, Transaction):
        paths += [compare.path for compare in request.compares]
        paths += [each.path for each in (*request.success, *request.failure)]
    elif not isinstance(request, Sync):
        paths.append(request.path)
    return [path for path in paths if path != "/"]


class _Groups:
    """Which names are joined by transactions."""

    def __init__(self) -> None:
        self._leaders: dict[str, str] = {}

    def leader(self, name: str) -> str:
        while (parent := self._leaders.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, names: list[str]) -> None:
        for name in names:
            self._leaders[self.leader(name)] = self.leader(names[0])

    def names(self) -> list[str]:
        return list(self._leaders)


def parts(history: History) -> dict[str, Part]:
    """Return the calls to be ordered, by the subtree to which they belong."""
    groups = _Groups()
    asked: list[tuple[str, Asked]] = []
    nameless: list[Operation] = []  # with creates below the root whose number nobody was told
    for operation in sorted(history.operations, key=lambda operation: (operation.client, operation.number)):
        if not _is_of_interest(operation):
            continue
        request = _named(operation)
        if request is None:
            nameless.append(operation)
        elif names := [top(path) for path in _paths(operation, request)]:
            groups.join(names)
            asked += [(names[0], each) for each in _variants(operation, request)]
    for operation in nameless:
        for request in _guesses(operation, groups.names()):
            names = [top(path) for path in _paths(operation, request)]
            groups.join(names)
            asked += [(names[0], each) for each in _variants(operation, request)]
    calls: dict[str, Part] = {}
    for name, each in asked:
        calls.setdefault("/" + groups.leader(name), []).append(_call(each))
    for part in calls.values():
        part += _unasked(history, part)
    return calls


def _is_of_interest(operation: Operation) -> bool:
    if is_answered(operation):
        result = operation.result
        if isinstance(result, Failure) and (result.code in _NEVER_JUDGED or depends_on_zxids(result)):
            return False
        return operation.is_write or operation.consistency == LINEARIZABLE
    return operation.outcome == UNKNOWN and operation.is_write


def _is_numbered_at_root(request: Request | TransactionOp) -> bool:
    return isinstance(request, Create) and request.mode in SEQUENTIAL and parent_of(request.path) == "/"


def _with_name(create: Create, path: str) -> Create:
    return replace(create, path=path, mode=_PLAIN_MODES[create.mode])


def _named(operation: Operation) -> Request | None:
    """Return the request, with the names that sequential creates below the root were told to have made.

    The counter of the root is not judged. None: nobody was told a name.
    """
    request, result = operation.request, operation.result
    if isinstance(request, Create) and _is_numbered_at_root(request):
        return _with_name(request, result.path) if isinstance(result, Created) else None
    if not isinstance(request, Transaction) or not any(map(_is_numbered_at_root, _creates(request))):
        return request
    if not isinstance(result, TransactionResult):
        return None
    branch = list(request.success if result.succeeded else request.failure)
    for place, (each, told) in enumerate(zip(branch, result.results, strict=False)):
        if isinstance(each, Create) and _is_numbered_at_root(each) and isinstance(told, Created):
            branch[place] = _with_name(each, told.path)
    if result.succeeded:
        return replace(request, success=branch, failure=[])
    return replace(request, success=[], failure=branch)


def _guesses(operation: Operation, names: list[str]) -> list[Request]:
    """Return what a request may have been whose names nobody was told, though somebody may have met them."""
    request = operation.request
    if is_answered(operation):
        return []  # It failed for a reason that hangs on such a name, and had no effect.
    if isinstance(request, Create):
        return [_with_name(request, path) for path in _names_for(request, names)]
    assert isinstance(request, Transaction), "only creates and transactions make names"
    numbered = [each for each in _creates(request) if _is_numbered_at_root(each)]
    guesses: list[Request] = []
    for paths in islice(product(*(_names_for(each, names) for each in numbered)), GUESSES_MAX):
        made = {id(each): _with_name(each, path) for each, path in zip(numbered, paths, strict=True)}
        success = [made.get(id(each), each) for each in request.success]
        failure = [made.get(id(each), each) for each in request.failure]
        guesses.append(replace(request, success=success, failure=failure))
    return guesses


def _names_for(create: Create, names: list[str]) -> list[str]:
    """Return the paths that a sequential create below the root may have made: those met, or one not met."""
    prefix = create.path[1:]
    met = [name for name in names if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    return ["/" + name for name in (*met, prefix + "-not-met")]


def _variants(operation: Operation, request: Request) -> list[Asked]:
    """Return what a request may have been: one, or both branches of a transaction nobody was answered for."""
    told = without_zxids(operation.result) if is_answered(operation) else None
    if told is None and not all(is_valid(path + "0") for path in _paths(operation, request)):
        return []  # Refused, whenever it came.
    if told is None and isinstance(request, Transaction) and any(map(is_believed, request.compares)):
        return [Asked(operation, request, None, True), Asked(operation, request, None, False)]
    return [Asked(operation, request, told)]


def _call(asked: Asked) -> Call[What]:
    operation = asked.operation
    end_ns = operation.completed_ns if asked.told is not None else None
    lane = operation.session or None
    one_of = (operation.client, operation.number)
    return Call(asked, operation.invoked_ns, end_ns, lane, follows=not operation.is_write, one_of=one_of)


# -- what the service does unasked --------------------------------------------------------------------


def _unasked(history: History, part: Part) -> Part:
    """Return the ends of sessions and the reapings that may have touched these calls' nodes."""
    closed_ns = {record.session: record.closed_ns for record in history.sessions}
    calls: Part = []
    over: dict[int, None] = {}
    lingering = _lingering(part)
    for call in part:
        if not isinstance(call.what, Asked):
            continue
        session = call.what.operation.session
        for create in _creates(call.what.request):
            if create.mode in (EPHEMERAL, EPHEMERAL_SEQUENTIAL) and session not in over:
                over[session] = None
                end_ns = closed_ns.get(session)
                calls += _ends(session, call.start_ns, end_ns, lingers=session in lingering)
            if create.mode in (CONTAINER, TTL, TTL_SEQUENTIAL) or create.ttl_ms:
                has_number = create.mode in (TTL_SEQUENTIAL, EPHEMERAL_SEQUENTIAL)
                calls.append(Call(Reaped(create.path, has_number), call.start_ns, None))
    return calls


def _lingering(part: Part) -> set[int]:
    """Return the sessions that may have nodes that leave graves."""
    return {
        call.what.operation.session
        for call in part
        if isinstance(call.what, Asked)
        for create in _creates(call.what.request)
        if create.ttl_ms and create.mode in (EPHEMERAL, EPHEMERAL_SEQUENTIAL)
    }


def _ends(session: int, start_ns: int, closed_ns: int | None, *, lingers: bool) -> Part:
    """Return the end of a session, or both ways in which it may have ended if that makes a difference."""
    if closed_ns is not None or not lingers:
        return [Call(SessionOver(session, closed_ns is not None), start_ns, closed_ns)]
    one_of = ("the end of session", session)
    return [
        Call(SessionOver(session, is_certain=False, expired=expired), start_ns, None, one_of=one_of)
        for expired in (True, False)
    ]


def _creates(request: Request) -> list[Create]:
    if isinstance(request, Create):
        return [request]
    if isinstance(request, Transaction):
        return [each for each in (*request.success, *request.failure) if isinstance(each, Create)]
    return []
