"""Watches: what each watcher was told, against what was committed (W1 to W8).

From the committed changes it follows which events a watch must see, in which order. What was told is held
against that list: nothing out of order (W4), nothing twice (W8), nothing invented or with a wrong value (W5),
nothing left out that had its chance (W2 for one-shot watches, W7 for streams), a one-shot watch fires once
(W1), nothing after the end of the watch (W6), no answer that shows a later state before the event (W3), and
"resync" only where history was gone (W8).

Rule of this file: a watch has had its chance of everything up to the newest event and the newest answer that
followed it, or up to what the recorder vouches for.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.types import Stat
from tests.checkers.history import (
    CHILDREN,
    EVENT_NAMES,
    ONCE_CHILDREN,
    ONCE_DATA,
    ONCE_EXISTS,
    ONCE_KINDS,
    RESYNC,
    STALE,
    STREAM_RECURSIVE,
    History,
    Operation,
    Violation,
    WatchEvent,
    WatchRecord,
)
from tests.checkers.judging import is_answered
from tests.checkers.tree import parent_of

VIOLATIONS_MAX = 20
KIND_NAMES = ("stream", "recursive stream", "one-shot data", "one-shot exists", "one-shot children")


@dataclass(slots=True)
class Expected:
    """One event that a watch must see."""

    type: int
    path: str
    zxid: int
    value: bytes
    stat: Stat | None

    def __str__(self) -> str:
        return f"{EVENT_NAMES[self.type]} {self.path} at zxid {self.zxid}"


def check(history: History) -> list[Violation]:
    """Return what is wrong with any watch."""
    index = _by_path(history.committed)
    replies: dict[str, list[Operation]] = {}
    for operation in history.operations:
        if operation.session and operation.consistency != STALE and is_answered(operation):
            replies.setdefault(operation.client, []).append(operation)
    for answered in replies.values():
        answered.sort(key=_arrival)
    violations: list[Violation] = []
    for watch in history.watches:
        changes = history.committed if watch.kind == STREAM_RECURSIVE else index.get(watch.path, [])
        judge = _Judge(watch, expected_events(watch, changes), history.facts.oldest_zxid)
        judge.run(_replies_to(watch, replies.get(watch.client, [])))
        violations += judge.violations
    return violations[:VIOLATIONS_MAX]


def _arrival(operation: Operation) -> tuple[int, int]:
    return operation.order, operation.completed_ns or 0


def _by_path(committed: list[Change]) -> dict[str, list[Change]]:
    """Return by path the changes of that node and those of its children, in order."""
    index: dict[str, list[Change]] = {}
    for change in committed:
        index.setdefault(change.path, []).append(change)
        if change.path != "/":
            index.setdefault(parent_of(change.path), []).append(change)
    return index


def expected_events(watch: WatchRecord, changes: list[Change]) -> list[Expected]:
    """Return every event for a watch at this path, from the first transaction on."""
    if watch.kind == STREAM_RECURSIVE:
        prefix = watch.path.rstrip("/") + "/"
        return [
            _event(change)
            for change in changes
            if change.path == watch.path or change.path.startswith(prefix)
        ]
    expected: list[Expected] = []
    told_children = 0  # the newest transaction whose CHILDREN stands in the list: one tells of all
    for change in changes:
        if change.path == watch.path:
            if _is_seen(watch.kind, change.type):
                expected.append(_event(change))
        elif change.type is not ChangeType.CHANGED and change.zxid != told_children:
            told_children = change.zxid
            if watch.kind not in (ONCE_DATA, ONCE_EXISTS):
                expected.append(Expected(CHILDREN, watch.path, change.zxid, b"", None))
    return expected


def _is_seen(kind: int, change_type: ChangeType) -> bool:
    """Whether a watch of this kind is told of this change of its own node."""
    if kind == ONCE_DATA:
        return change_type is not ChangeType.CREATED
    if kind == ONCE_CHILDREN:
        return change_type is ChangeType.DELETED
    return True


def _event(change: Change) -> Expected:
    return Expected(int(change.type), change.path, change.zxid, change.value, change.stat)


def _replies_to(watch: WatchRecord, replies: list[Operation]) -> list[Operation]:
    """Return the answers that came on the way of the watch's events, after it was set and before its end."""
    set_ns = watch.set_ns
    if set_ns is None or not watch.is_immediate:
        return []
    end_ns = watch.cancelled_ns
    return [
        reply
        for reply in replies
        if (completed_ns := reply.completed_ns) is not None
        and completed_ns > set_ns
        and (end_ns is None or completed_ns <= end_ns)
        and (watch.kind not in ONCE_KINDS or reply.session == watch.session)
    ]


def _is_same(event: WatchEvent, expected: Expected, *, with_values: bool) -> bool:
    """Whether the watcher was told just this. A recorder may have left the stat out."""
    return (
        event.zxid == expected.zxid
        and event.type == expected.type
        and event.path == expected.path
        and event.value == (expected.value if with_values else b"")
        and (event.stat is None or event.stat == expected.stat)
    )


class _Judge:
    """One watch."""

    def __init__(self, watch: WatchRecord, expected: list[Expected], oldest_zxid: int | None) -> None:
        self.violations: list[Violation] = []
        self._watch = watch
        self._oldest_zxid = oldest_zxid
        start = watch.since if watch.since is not None else watch.set_zxid
        if start is None and watch.events:
            start = watch.events[0].zxid - 1  # Never told where it begins: it begins with what it was told.
        self._is_known = watch.since is not None or watch.set_zxid is not None
        self._start = start or 0
        self._expected = [each for each in expected if each.zxid > self._start]
        self._next = 0  # place in `_expected`
        self._is_once = watch.kind in ONCE_KINDS

    def _report(self, invariant: str, text: str) -> None:
        watch = self._watch
        whose = f"{watch.client}'s {KIND_NAMES[watch.kind]} watch {watch.watch_id} at {watch.path}"
        self.violations.append(Violation(invariant, f"{whose} {text}", [watch]))

    def run(self, replies: list[Operation]) -> None:
        watch = self._watch
        self._judge_order()
        if self._is_once and len(watch.events) > 1:
            self._report("W1", f"fired {len(watch.events)} times")
        for event in watch.events:
            if watch.cancelled_ns is not None and event.arrived_ns > watch.cancelled_ns:
                self._report("W6", f"was told {_told(event)} after it had been removed")
            if event.type == RESYNC:
                self._judge_resync(event)
            elif not (self._is_once and self._next):
                self._judge_event(event)
        self._judge_early_answers(replies)
        self._judge_completeness(replies)

    def _judge_order(self) -> None:
        newest = self._start
        for event in self._watch.events:
            if event.zxid < newest and event.type != RESYNC:
                self._report("W4", f"was told {_told(event)} after it had seen {newest}")
            newest = max(newest, event.zxid)

    def _judge_resync(self, event: WatchEvent) -> None:
        """Events up to its zxid are missing, and the watcher knows it."""
        # Of the newest transaction that it was told of, the rest may be missing: only earlier ones are whole.
        newest = self._expected[self._next - 1].zxid - 1 if self._next else self._start
        if event.zxid <= newest:
            self._report("W8", f"was told to read again up to {event.zxid}, and had seen {newest}")
        elif self._oldest_zxid is not None and event.zxid >= self._oldest_zxid:
            self._report(
                "W8",
                f"was told that history up to zxid {event.zxid} is gone;"
                f" every member has kept it from zxid {self._oldest_zxid} on",
            )
        if self._is_once:
            self._next = len(self._expected)
            return
        while self._next < len(self._expected) and self._expected[self._next].zxid <= event.zxid:
            self._next += 1

    def _judge_event(self, event: WatchEvent) -> None:
        expected, with_values = self._expected, self._watch.with_values
        place = self._next
        while place < len(expected) and expected[place].zxid <= event.zxid:
            if _is_same(event, expected[place], with_values=with_values):
                if place > self._next and self._is_known:
                    self._report(self._missed, f"missed {expected[self._next]}, and was told {_told(event)}")
                self._next = place + 1
                return
            place += 1
        if any(_is_same(event, each, with_values=with_values) for each in expected[: self._next]):
            self._report("W8", f"was told {_told(event)} twice")
            return
        right = [each for each in expected if (each.zxid, each.path) == (event.zxid, event.path)]
        if right:
            text = f"was told {_told(event)} {event.value!r} {event.stat}; right is {right[0]}"
            self._report("W5", f"{text} {right[0].value!r} {right[0].stat}")
            self._next = max(self._next, expected.index(right[0]) + 1)
        else:
            self._report("W5", f"was told {_told(event)}, which it cannot have seen")

    @property
    def _missed(self) -> str:
        return "W2" if self._is_once else "W7"

    def _judge_early_answers(self, replies: list[Operation]) -> None:
        """No answer that shows a state at or after an event comes before it (W3)."""
        shown = place = 0
        for event in self._watch.events:
            if not self._watch.is_immediate or event.type == RESYNC:
                continue
            while place < len(replies) and _comes_before(replies[place], event):
                shown = max(shown, replies[place].zxid or 0)
                place += 1
            if shown >= event.zxid:
                self._report("W3", f"was told {_told(event)} after an answer had shown zxid {shown}")
                return

    def _judge_completeness(self, replies: list[Operation]) -> None:
        if not self._is_known or self._watch.set_ns is None or (self._is_once and self._next):
            return
        shown = max((reply.zxid or 0 for reply in replies), default=0)
        complete_to = max(shown, self._watch.complete_to)
        left_out = [each for each in self._expected[self._next :] if each.zxid <= complete_to]
        if self._is_once:
            del left_out[1:]
        if left_out:
            text = f"was never told {left_out[0]}, although {complete_to} was shown"
            more = f" ({len(left_out)} events in all)" if len(left_out) > 1 else ""
            self._report(self._missed, text + more)


def _comes_before(reply: Operation, event: WatchEvent) -> bool:
    if reply.order and event.order:
        return reply.order < event.order
    return (reply.completed_ns or 0) < event.arrived_ns


def _told(event: WatchEvent) -> str:
    return f"{EVENT_NAMES[event.type]} {event.path} at zxid {event.zxid}"
