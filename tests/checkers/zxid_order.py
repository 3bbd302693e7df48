"""Linearizability by zxid order: all operations in the order that the service claims, judged by a model.

The service numbers its transactions, so the order need not be searched for: replay the committed changes, and
every answer must be what the tree says at the answer's zxid (G1, C1, C2). Who was answered before another
called must stand before it (C4). Every transaction must stem from exactly one request, the end of one
session, or the reaping of nodes that may go (G8); so a write that failed for certain, or was applied already,
is found when it has an effect (C3).

Rule of this file: linear in the history but for the writes with an unknown outcome; the first wrong one is
named first, and the tree then follows what was committed, so that one error is not reported as many.
"""

from __future__ import annotations

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Transaction
from tests.checkers.history import LINEARIZABLE, UNKNOWN, History, Operation, Result, Violation
from tests.checkers.judging import SeenZxids, agrees, describe, has_changed, is_answered, sightings
from tests.checkers.matching import match_all
from tests.checkers.tree import SEQUENTIAL, Tree

VIOLATIONS_MAX = 20


def check(history: History) -> list[Violation]:
    """Return what is wrong, worst first: the record itself, then answers, then order in real time."""
    transactions, violations = _transactions(history.committed)
    if violations:
        return violations
    replay = _Replay(history, transactions)
    replay.run()
    violations = [*replay.violations, *_real_time(history, replay.seen)]
    return violations[:VIOLATIONS_MAX]


def _transactions(committed: list[Change]) -> tuple[list[list[Change]], list[Violation]]:
    """Return the changes by zxid (nothing at 0). They must be gapless and in order (G1)."""
    transactions: list[list[Change]] = [[]]
    for change in committed:
        newest = len(transactions) - 1
        if change.zxid == newest and newest:
            transactions[newest].append(change)
        elif change.zxid == newest + 1:
            transactions.append([change])
        else:
            text = f"after zxid {newest} the committed changes go on with {change.zxid}"
            return transactions, [Violation("G1", text, [change])]
    return transactions, []


class _Replay:
    """One pass over all transactions in order."""

    def __init__(self, history: History, transactions: list[list[Change]]) -> None:
        self.violations: list[Violation] = []
        self.seen = SeenZxids(sightings(history))
        self._history = history
        self._transactions = transactions
        self._tree = Tree()
        self._time_ms = 0
        self._claims: dict[int, Operation] = {}
        self._looks: dict[int, list[Operation]] = {}
        self._unknown: list[Operation] = []
        self._failed: list[Operation] = []
        self._fits: dict[int, list[int]] = {}  # by unclaimed zxid: places in `_unknown`
        self._ended: dict[int, int] = {end.session: end.zxid for end in history.session_ends}
        self._was_closed = {end.session: end.was_closed for end in history.session_ends}

    def run(self) -> None:
        for operation in self._history.operations:
            self._sort_in(operation)
        newest = len(self._transactions) - 1
        for zxid in range(newest + 1):
            if zxid:
                self._transact(zxid, self._transactions[zxid])
            for operation in self._looks.get(zxid, ()):
                self._look(operation, zxid)
        self._resolve()

    def _report(self, invariant: str, text: str, *operations: Operation) -> None:
        told = "".join(f"\n    {describe(operation)}" for operation in operations)
        self.violations.append(Violation(invariant, text + told, list(operations)))

    def _sort_in(self, operation: Operation) -> None:
        """Decide at which zxid an operation is judged."""
        if not is_answered(operation):
            if operation.is_write:
                (self._unknown if operation.outcome == UNKNOWN else self._failed).append(operation)
            return
        zxid, newest = operation.zxid, len(self._transactions) - 1
        if zxid is None:
            self._report("H1", "an answer was recorded without its zxid, so it cannot be judged", operation)
        elif not 0 <= zxid <= newest:
            text = f"an answer names zxid {zxid}, but only {newest} transactions were committed"
            self._report("G3", text, operation)
        elif not has_changed(operation):
            self._looks.setdefault(zxid, []).append(operation)
        elif zxid in self._claims:
            text = f"two writes were answered with the same zxid {zxid}"
            self._report("G1", text, self._claims[zxid], operation)
        else:
            self._claims[zxid] = operation

    # -- what changed something -----------------------------------------------------------------

    def _transact(self, zxid: int, changes: list[Change]) -> None:
        times = [change.stat.mtime for change in changes if change.type is not ChangeType.DELETED]
        time_ms = max(times, default=self._time_ms)
        if time_ms < self._time_ms:
            text = f"time went back from {self._time_ms} to {time_ms} ms at zxid {zxid}"
            self.violations.append(Violation("Z10", text, list(changes)))
        self._time_ms = max(self._time_ms, time_ms)
        operation = self._claims.get(zxid)
        if operation is not None:
            self._judge_claim(operation, zxid, changes)
        elif not self._explain(zxid, changes):
            self._tree.follow(changes)

    def _judge_claim(self, operation: Operation, zxid: int, changes: list[Change]) -> None:
        tree = self._tree
        expected = self._carry_out(operation, zxid)
        if agrees(operation.result, expected) and tree.changes == changes:
            self._expect_alive(operation, zxid)
            return
        done = tree.changes
        tree.undo()
        tree.follow(changes)
        if not agrees(operation.result, expected):
            text = f"the wrong answer at zxid {zxid}: right is {expected}"
        else:
            text = f"at zxid {zxid} was committed {changes}, but the request does {done}"
        self._report("C1", text, operation)

    def _carry_out(self, operation: Operation, zxid: int) -> Result:
        return self._tree.carry_out(
            operation.request, operation.guards, zxid=zxid, time_ms=self._time_ms, session=operation.session
        )

    def _expect_alive(self, operation: Operation, zxid: int) -> None:
        end = self._ended.get(operation.session)
        if end is not None and zxid > end:
            text = f"session {operation.session} ended with zxid {end}, and changed something at {zxid}"
            self._report("S1", text, operation)

    def _explain(self, zxid: int, changes: list[Change]) -> bool:
        """Find out whose a transaction is that nobody was answered for. Return whether the tree has it."""
        if self._is_session_end(zxid, changes, certain=True):
            return True
        # What may have been reaped says nothing about a write that would have done the same.
        if self._is_reaping(zxid, changes):
            return True
        fits = self._fitting(zxid, changes)
        if fits:
            self._fits[zxid] = fits
            self._carry_out(self._unknown[fits[0]], zxid)
            return True
        if self._is_session_end(zxid, changes, certain=False):
            return True
        self._report_orphan(zxid, changes)
        return False

    def _is_reaping(self, zxid: int, changes: list[Change]) -> bool:
        """Whether the service may have removed these nodes by itself."""
        tree = self._tree
        for change in changes:
            node = tree.nodes.get(change.path)
            if change.type is not ChangeType.DELETED or node is None or not node.may_go or node.owner:
                return False
        tree.begin(zxid, self._time_ms, 0)
        tree.remove_all([change.path for change in changes if not tree.names[change.path]])
        if tree.changes == changes:
            return True
        tree.undo()
        return False

    def _fitting(self, zxid: int, changes: list[Change]) -> list[int]:
        """Return the writes of unknown outcome that would have done exactly this."""
        tree = self._tree
        fits = []
        paths = {change.path for change in changes}
        for place, operation in enumerate(self._unknown):
            if _must_touch(operation) not in (None, *paths):
                continue
            if self.seen.before(operation.invoked_ns) >= zxid:
                continue  # It was called when this was over.
            end = self._ended.get(operation.session)
            if end is not None and zxid > end:
                continue
            self._carry_out(operation, zxid)
            if tree.changes == changes:
                fits.append(place)
            tree.undo()
        return fits

    def _is_session_end(self, zxid: int, changes: list[Change], *, certain: bool) -> bool:
        """Whether one session lost all its ephemerals (Z8). `certain`: one that is known to end here."""
        first = changes[0]
        session = first.stat.ephemeral_owner
        if first.type is not ChangeType.DELETED or not session:
            return False
        known = self._ended.get(session)
        if (certain and known != zxid) or (not certain and known not in (None, zxid)):
            return False
        tree = self._tree
        was_closed = self._was_closed.get(session)
        for expired in (False, True) if was_closed is None else (not was_closed,):
            tree.begin(zxid, self._time_ms, 0)
            tree.end_session(session, expired=expired)
            if tree.changes == changes:
                self._ended.setdefault(session, zxid)
                return True
            tree.undo()
        return False

    def _report_orphan(self, zxid: int, changes: list[Change]) -> None:
        """Nobody can have done this. Say what it looks like."""
        told = ", ".join(f"{change.type.name} {change.path} {change.value!r}" for change in changes)
        for operation in self._claims.values():
            if not set(_paths(operation)) & {change.path for change in changes}:
                continue
            self._carry_out(operation, zxid)
            is_same = self._tree.changes == changes
            self._tree.undo()
            if is_same and operation.zxid is not None and operation.zxid < zxid:
                text = f"zxid {zxid} ({told}) looks like a second time of a write already applied"
                self._report("S4", text, operation)
                return
        for operation in self._failed:
            self._carry_out(operation, zxid)
            is_same = self._tree.changes == changes
            self._tree.undo()
            if is_same:
                text = f"zxid {zxid} ({told}) is what a write did that had failed for certain"
                self._report("C3", text, operation)
                return
        text = f"zxid {zxid} ({told}) stems from no request, no end of a session, no reaping"
        self.violations.append(Violation("G8", text, list(changes)))

    # -- what changed nothing -------------------------------------------------------------------

    def _look(self, operation: Operation, zxid: int) -> None:
        """Judge a read, or a write that says that it changed nothing, at the state it says it saw."""
        expected = self._carry_out(operation, zxid + 1)
        would_change = bool(self._tree.changes)
        self._tree.undo()
        if would_change or not agrees(operation.result, expected):
            invariant = "C1" if operation.is_write else "C2"
            self._report(invariant, f"the wrong answer at zxid {zxid}: right is {expected}", operation)

    def _resolve(self) -> None:
        """Each write of unknown outcome is the cause of one transaction at most (S4)."""
        for zxid in match_all(self._fits):
            operation = self._unknown[self._fits[zxid][0]]
            text = f"zxid {zxid} can only be a write that was applied already: it was applied twice"
            self._report("S4", text, operation)


def _must_touch(operation: Operation) -> str | None:
    """Return a path that the write changes if it does anything; None: that cannot be said beforehand."""
    request = operation.request
    if isinstance(request, Transaction) or (isinstance(request, Create) and request.mode in SEQUENTIAL):
        return None
    return operation.path


def _paths(operation: Operation) -> list[str]:
    """Return paths that an answered write may have changed."""
    made = getattr(operation.result, "path", operation.path)
    return [operation.path, made]


def _real_time(history: History, seen: SeenZxids) -> list[Violation]:
    """Who called after another was answered comes after it (C4); nobody sees less than asked for."""
    violations = []
    for operation in history.operations:
        zxid = operation.zxid
        if zxid is None or not is_answered(operation):
            continue
        if zxid < operation.min_zxid:
            text = f"asked for zxid {operation.min_zxid} or later, and got an older state"
            violations.append(Violation("C2", f"{text}\n    {describe(operation)}", [operation]))
        floor = seen.before(operation.invoked_ns)
        if has_changed(operation):
            is_late = zxid <= floor
        else:
            is_late = zxid < floor and (operation.is_write or operation.consistency == LINEARIZABLE)
        if is_late:
            what = "a write" if operation.is_write else "a linearizable read"
            text = f"{what} stands at zxid {zxid}, although {floor} had been seen before it was called"
            violations.append(Violation("C4", f"{text}\n    {describe(operation)}", [operation]))
    return violations
