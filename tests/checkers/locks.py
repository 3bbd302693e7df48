"""Locks and elections: one holder at a time, in order, and fenced (K1 to K4).

Rule of this file: K1, K2 and K4 hold whatever clocks and pauses do, and are judged by the committed changes
and by what the fenced resource saw. K3, that no two clients believe at one time to hold a lock, is promised
only to those whose clock runs; an overlap with somebody who was paused is told by `overlaps`, and no
violation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from coordsvc.statemachine.changes import ChangeType
from tests.checkers.history import FencedWrite, History, LockRecord, Violation
from tests.checkers.judging import SeenZxids, begun_ns, sightings

VIOLATIONS_MAX = 20


def check(history: History) -> list[Violation]:
    """Return what is wrong with any lock."""
    grants: dict[str, list[LockRecord]] = {}
    for record in history.locks:
        if record.granted_ns is not None:
            grants.setdefault(record.lock, []).append(record)
    violations: list[Violation] = []
    lives = _lives(history)
    times = _Times(history)
    for held in grants.values():
        held.sort(key=lambda record: record.token)
        violations += _real_grants(held, lives, times)
        violations += _one_holder(held, lives, times)
    violations += _fenced(history)
    violations += [
        violation for violation in overlaps(history) if not _is_excused(history, violation.records)
    ]
    return violations[:VIOLATIONS_MAX]


@dataclass(slots=True)
class _Life:
    """One znode from its creation to its deletion, in zxids."""

    created_zxid: int
    owner: int
    deleted_zxid: int | None = None


@dataclass(slots=True)
class _Times:
    """Before which moment a transaction cannot have been committed, and by when it was."""

    history: History
    begun: list[int] = field(init=False)
    seen: SeenZxids = field(init=False)

    def __post_init__(self) -> None:
        self.begun = begun_ns(self.history)
        self.seen = SeenZxids(sightings(self.history))


def _lives(history: History) -> dict[tuple[str, int], _Life]:
    """Return every life of every znode, by path and czxid."""
    lives: dict[tuple[str, int], _Life] = {}
    for change in history.committed:
        key = (change.path, change.stat.czxid)
        if change.type is ChangeType.CREATED:
            lives[key] = _Life(change.zxid, change.stat.ephemeral_owner)
        elif change.type is ChangeType.DELETED and key in lives:
            lives[key].deleted_zxid = change.zxid
    return lives


def _told(record: LockRecord) -> str:
    return f"{record.client} (session {record.session}) with token {record.token}"


def _real_grants(
    held: list[LockRecord], lives: dict[tuple[str, int], _Life], times: _Times
) -> list[Violation]:
    """A grant stands on a node of the holder's session, made by the transaction that is its token (K1)."""
    violations = []
    for record in held:
        life = lives.get((record.node, record.token))
        assert record.granted_ns is not None, "only what was granted is judged"
        if life is None:
            text = f"{record.lock} was granted to {_told(record)}, and no {record.node} was made by that zxid"
            violations.append(Violation("K1", text, [record]))
        elif life.owner != record.session:
            text = f"{record.lock} was granted to {_told(record)}; its node belongs to session {life.owner}"
            violations.append(Violation("K1", text, [record]))
        elif times.begun[life.created_zxid] > record.granted_ns:
            text = f"{record.lock} was granted to {_told(record)} before its node was made"
            violations.append(Violation("K1", text, [record]))
        elif life.deleted_zxid is not None:
            requested_seen = times.seen.before(record.requested_ns)
            if requested_seen >= life.deleted_zxid:
                text = f"{record.lock} was granted to {_told(record)}, whose node had gone before it asked"
                violations.append(Violation("K1", text, [record]))
    return violations


def _one_holder(
    held: list[LockRecord], lives: dict[tuple[str, int], _Life], times: _Times
) -> list[Violation]:
    """When a lock is granted every earlier holder's node has gone (K1); tokens grow with the grants (K4)."""
    violations = []
    for earlier, later in pairwise(held):
        if earlier.token == later.token:
            text = f"{later.lock} was granted to {_told(earlier)} and to {_told(later)}: one token"
            violations.append(Violation("K1", text, [earlier, later]))
            continue
        life = lives.get((earlier.node, earlier.token))
        if life is None or later.granted_ns is None:
            continue
        gone_zxid = life.deleted_zxid
        if gone_zxid is None or times.begun[gone_zxid] > later.granted_ns:
            when = "never went" if gone_zxid is None else f"went with zxid {gone_zxid}, after that"
            text = f"{later.lock} was granted to {_told(later)}; the node of {_told(earlier)} {when}"
            violations.append(Violation("K1", text, [earlier, later]))
        elif earlier.granted_ns is not None and earlier.granted_ns > later.granted_ns:
            if earlier.was_paused or times.seen.before(earlier.granted_ns) < gone_zxid:
                continue  # It was told late of what had been its own for a while.
            text = f"{later.lock} was granted to {_told(later)}, and after that to {_told(earlier)}"
            violations.append(Violation("K4", text, [earlier, later]))
    return violations


def _fenced(history: History) -> list[Violation]:
    """What a resource accepted has tokens that only grow, each of one holder (K2)."""
    violations = []
    owners: dict[tuple[str, int], str] = {
        (record.lock, record.token): record.client for record in history.locks if record.token
    }
    clients: dict[int, list[str]] = {}
    for (_, token), client in owners.items():
        clients.setdefault(token, []).append(client)
    newest: dict[str, FencedWrite] = {}
    writers: dict[tuple[str, int], FencedWrite] = {}
    for write in sorted(history.fenced_writes, key=lambda write: (write.resource, write.order)):
        last = newest.get(write.resource)
        first = writers.setdefault((write.resource, write.token), write)
        what = f"{write.resource}: {write.client}'s write {write.order} with token {write.token}"
        if first.client != write.client:
            text = f"{what}; that token was {first.client}'s at write {first.order}"
            violations.append(Violation("K2", text, [first, write]))
        elif write.client not in clients.get(write.token, [write.client]):
            text = f"{what}; that token was granted to {clients[write.token]}"
            violations.append(Violation("K2", text, [write]))
        if last is not None and write.token < last.token and write.accepted:
            text = f"{what} was accepted after {last.client}'s with token {last.token}"
            violations.append(Violation("K2", text, [last, write]))
        elif not write.accepted and (last is None or write.token >= last.token):
            text = f"{what} was refused, and no larger token had been seen"
            violations.append(Violation("K2", text, [write]))
        if write.accepted and (last is None or write.token > last.token):
            newest[write.resource] = write
    return violations


def overlaps(history: History) -> list[Violation]:
    """Return the pairs of clients that believed at one time to hold the same lock, excused or not (K3)."""
    found = []
    beliefs: dict[str, list[tuple[int, int, LockRecord]]] = {}
    for record in history.locks:
        if record.granted_ns is not None and record.believed_until_ns is not None:
            belief = (record.granted_ns, record.believed_until_ns, record)
            beliefs.setdefault(record.lock, []).append(belief)
    for held in beliefs.values():
        held.sort(key=lambda belief: belief[:2])
        latest_ns, latest = -1, held[0][2]
        for from_ns, until_ns, record in held:
            if from_ns < latest_ns and record is not latest:
                text = f"{record.lock} was granted to {_told(record)} at {from_ns} ns, while {_told(latest)}"
                text += f" believed until {latest_ns} ns to hold it"
                found.append(Violation("K3", text, [latest, record]))
            if until_ns > latest_ns:
                latest_ns, latest = until_ns, record
    return found


def _is_excused(history: History, records: Sequence[object]) -> bool:
    if history.facts.has_pauses:
        return True
    return any(isinstance(record, LockRecord) and record.was_paused for record in records)
