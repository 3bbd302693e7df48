"""Sessions: order, exactly once, own writes read, and the life of what belongs to a session (S1 to S7).

Rule of this file: only what clients and the committed changes show. Real time is used where it proves
something: a transaction that somebody had seen by a moment was committed before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Transaction
from tests.checkers.history import (
    LINEARIZABLE,
    STALE,
    UNKNOWN,
    History,
    Operation,
    SessionRecord,
    Violation,
)
from tests.checkers.judging import SeenZxids, describe, has_changed, is_answered, sightings

VIOLATIONS_MAX = 20
LATE_MS = 5_000
"""How long after its timeout a silent session may live on while nothing is disturbed."""


@dataclass(slots=True)
class _Ephemerals:
    """What the committed changes say of one session. `gone_zxid`: where all it had went at once."""

    alive: dict[str, int] = field(default_factory=dict)  # path: czxid
    gone_zxid: int | None = None
    went_alone: bool = False  # the last transaction before the end was a request: nothing went with it
    created: list[Change] = field(default_factory=list)


def check(history: History, *, late_ms: int = LATE_MS) -> list[Violation]:
    """Return what is wrong with any session."""
    violations = _numbers(history)
    by_session: dict[int, list[Operation]] = {}
    for operation in history.operations:
        if operation.session:
            by_session.setdefault(operation.session, []).append(operation)
    for operations in by_session.values():
        operations.sort(key=lambda operation: operation.number)
        violations += _writes_in_order(operations)
        violations += _reads_in_order(operations)
    ephemerals = _follow_ephemerals(history)
    violations += _after_the_end(history, ephemerals)
    seen = SeenZxids(sightings(history))
    for record in history.sessions:
        violations += _operations_after(record, by_session.get(record.session, []))
        violations += _too_early(history, record, ephemerals, seen)
        violations += _too_late(history, record, ephemerals, late_ms)
    return violations[:VIOLATIONS_MAX]


def _numbers(history: History) -> list[Violation]:
    """Session ids are never reused (S6), and a session ends once."""
    violations = []
    owners: dict[int, SessionRecord] = {}
    for record in history.sessions:
        first = owners.setdefault(record.session, record)
        if first is not record:
            text = f"session {record.session} was given to {first.client} and again to {record.client}"
            violations.append(Violation("S6", text, [first, record]))
    ended: dict[int, int] = {}
    for end in history.session_ends:
        if end.session in ended:
            text = f"session {end.session} ended at zxid {ended[end.session]} and again at {end.zxid}"
            violations.append(Violation("S6", text, [end]))
        ended[end.session] = end.zxid
    return violations


# -- the operations of one session ----------------------------------------------------------------


def _wrong(invariant: str, text: str, *operations: Operation) -> Violation:
    told = "".join(f"\n    {describe(operation)}" for operation in operations)
    return Violation(invariant, text + told, list(operations))


def _writes_in_order(operations: list[Operation]) -> list[Violation]:
    """Writes take effect in the order in which they were called, each once (S4, G4, G5)."""
    violations = []
    newest: Operation | None = None  # of those with a sequence
    answered: Operation | None = None
    for operation in operations:
        if not operation.is_write:
            continue
        if operation.sequence:
            if newest is not None and operation.sequence <= newest.sequence:
                text = "the sequence of a session's writes does not follow the order of the calls"
                violations.append(_wrong("S4", text, newest, operation))
            newest = operation
        zxid = operation.zxid
        if zxid is None or not is_answered(operation):
            continue
        before = answered.zxid if answered is not None else None
        if answered is not None and before is not None:
            is_wrong = zxid <= before if has_changed(operation) else zxid < before
            if is_wrong:
                text = f"a session's write at zxid {zxid} was called after the one at {before}"
                violations.append(_wrong("S4", text, answered, operation))
        answered = operation
    return violations


def _reads_in_order(operations: list[Operation]) -> list[Violation]:
    """A session reads its own writes, and never sees time go back (S5). Stale reads promise neither."""
    violations = []
    written: Operation | None = None  # the newest write that was called before
    seen = SeenZxids(
        [
            (operation.completed_ns, operation.zxid)
            for operation in operations
            if operation.completed_ns is not None and operation.zxid is not None and _is_in_order(operation)
        ]
    )
    for operation in operations:
        zxid = operation.zxid
        if zxid is None or not _is_in_order(operation):
            continue
        if operation.is_write:
            written = operation
            continue
        if written is not None and zxid < (written.zxid or 0):
            text = f"a read at zxid {zxid} does not see the session's own write before it"
            violations.append(_wrong("S5", text, written, operation))
        elif zxid < seen.before(operation.invoked_ns):
            text = f"a read at zxid {zxid}; the session had seen {seen.before(operation.invoked_ns)} before"
            violations.append(_wrong("S5", text, operation))
    return violations


def _is_in_order(operation: Operation) -> bool:
    return is_answered(operation) and (operation.is_write or operation.consistency != STALE)


def _operations_after(record: SessionRecord, operations: list[Operation]) -> list[Violation]:
    """Nothing that is called after the end of a session is carried out in it (S1)."""
    ends = [end_ns for end_ns in (record.lost_ns, record.closed_ns) if end_ns is not None]
    if not ends:
        return []
    return [
        _wrong("S1", f"session {record.session} had ended for its client when this was called", operation)
        for operation in operations
        if operation.invoked_ns > min(ends) and is_answered(operation)
    ]


# -- what belongs to a session ----------------------------------------------------------------------


def _follow_ephemerals(history: History) -> dict[int, _Ephemerals]:
    """Follow every session's ephemerals through the committed changes."""
    explicit = _deleted_by_request(history)
    sessions: dict[int, _Ephemerals] = {}
    place, committed = 0, history.committed
    while place < len(committed):
        end = place
        while end < len(committed) and committed[end].zxid == committed[place].zxid:
            end += 1
        transaction = committed[place:end]
        place = end
        touched: dict[int, None] = {}
        for change in transaction:
            owner = change.stat.ephemeral_owner
            if not owner:
                continue
            mine = sessions.setdefault(owner, _Ephemerals())
            if change.type is ChangeType.CREATED:
                mine.alive[change.path] = change.zxid
                mine.created.append(change)
            elif change.type is ChangeType.DELETED:
                mine.alive.pop(change.path, None)
                touched[owner] = None
        zxid = transaction[0].zxid
        if len(touched) == 1 and zxid not in explicit:
            (owner,) = touched
            if not sessions[owner].alive and not _may_be_a_request(history, transaction):
                sessions[owner].gone_zxid = zxid
    for known in history.session_ends:
        if known.session in sessions:
            mine = sessions[known.session]
            mine.gone_zxid = known.zxid
            mine.went_alone = known.zxid in explicit
    return sessions


def _deleted_by_request(history: History) -> dict[int, None]:
    return {
        operation.zxid: None
        for operation in history.operations
        if operation.zxid is not None and has_changed(operation)
    }


def _may_be_a_request(history: History, transaction: list[Change]) -> bool:
    """Whether a write without an answer may have deleted these nodes."""
    for operation in history.operations:
        if operation.outcome != UNKNOWN or not operation.is_write:
            continue
        if isinstance(operation.request, Transaction):
            return True
        if any((change.path + "/").startswith(operation.path + "/") for change in transaction):
            return True
    return False


def _after_the_end(history: History, ephemerals: dict[int, _Ephemerals]) -> list[Violation]:
    """When a session has ended none of its nodes lives, and none is made any more (S1, Z8)."""
    violations = []
    for end in history.session_ends:
        mine = ephemerals.get(end.session)
        if mine is None:
            continue
        for path in mine.alive:
            text = f"session {end.session} ended at zxid {end.zxid}, and its node {path} lives on"
            violations.append(Violation("Z8", text, [end]))
    for session, mine in ephemerals.items():
        gone_zxid = mine.gone_zxid
        if gone_zxid is None:
            continue
        for change in mine.created:
            if change.zxid > gone_zxid:
                text = f"session {session} ended at zxid {gone_zxid}, and made {change.path} at {change.zxid}"
                violations.append(Violation("S1", text, [change]))
    return violations


def _too_early(
    history: History, record: SessionRecord, ephemerals: dict[int, _Ephemerals], seen: SeenZxids
) -> list[Violation]:
    """No session ends before its timeout has passed since it was last renewed (S2, S7)."""
    violations = []
    known = [end for end in history.session_ends if end.session == record.session]
    if known and known[0].was_closed and record.close_sent_ns is None:
        text = f"session {record.session} of {record.client} was closed, and its client never asked for that"
        violations.append(Violation("S2", text, [record, *known]))
    if known and known[0].applied_ns is not None:
        return violations + _ended_too_early(history, record, known[0].applied_ns)
    mine = ephemerals.get(record.session)
    if mine is None or mine.gone_zxid is None or not mine.created:
        return violations
    if mine.went_alone or not any(
        change.zxid == mine.gone_zxid and change.stat.ephemeral_owner == record.session
        for change in history.committed
    ):
        return violations  # Nothing went with it: its zxid tells no time.
    seen_ns = seen.seen_ns(mine.gone_zxid)
    if seen_ns is None:
        return violations
    return violations + _ended_too_early(history, record, seen_ns)


def _ended_too_early(history: History, record: SessionRecord, over_ns: int) -> list[Violation]:
    """The session was over by `over_ns`, at the latest: was that its right?"""
    if record.close_sent_ns is not None and over_ns >= record.close_sent_ns:
        return []
    violations = []
    timeout_ns = record.timeout_ms * 1_000_000
    tolerance_ns = round(timeout_ns * history.facts.clock_error)
    what = f"session {record.session} of {record.client} was over at {over_ns} ns"
    if record.renewed_ns and over_ns < record.renewed_ns + timeout_ns - tolerance_ns:
        text = f"{what}; it had been renewed at {record.renewed_ns} ns"
        violations.append(Violation("S2", f"{text}, and its timeout is {record.timeout_ms} ms", [record]))
    believed_ns = record.valid_until_ns
    if record.lost_ns is not None:
        believed_ns = min(believed_ns, record.lost_ns)
    if over_ns < believed_ns - tolerance_ns:
        text = f"{what}, while its client took it for valid until {believed_ns} ns"
        violations.append(Violation("S7", text, [record]))
    return violations


def _too_late(
    history: History, record: SessionRecord, ephemerals: dict[int, _Ephemerals], late_ms: int
) -> list[Violation]:
    """A silent session ends in time, once nothing is disturbed any more (S3)."""
    healed_ns = history.facts.healed_ns
    silent = [each for each in (record.stopped_ns, record.lost_ns, record.close_sent_ns) if each is not None]
    mine = ephemerals.get(record.session)
    if healed_ns is None or not silent or mine is None:
        return []
    timeout_ms = record.timeout_ms * (1 + history.facts.clock_error)
    deadline_ns = max(healed_ns, min(silent)) + round((timeout_ms + late_ms) * 1_000_000)
    finished_ns = history.facts.finished_ns
    what = f"session {record.session} of {record.client} was silent, and should be over by {deadline_ns} ns"
    if mine.alive and finished_ns is not None and finished_ns > deadline_ns:
        path = next(iter(mine.alive))
        return [Violation("S3", f"{what}; its node {path} was never removed", [record])]
    gone_zxid = mine.gone_zxid
    for operation in history.operations:
        if operation.invoked_ns <= deadline_ns or operation.zxid is None or not is_answered(operation):
            continue
        is_present = operation.is_write or operation.consistency == LINEARIZABLE
        if is_present and gone_zxid is not None and operation.zxid < gone_zxid:
            text = f"{what}; its nodes were still there at zxid {operation.zxid}"
            return [Violation("S3", f"{text}\n    {describe(operation)}", [record, operation])]
    return []
