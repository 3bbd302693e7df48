"""The session table: who the clients are, and which of their writes were carried out already.

Rule of this file: a write of a session is carried out only if its sequence is exactly the next one. That one
rule gives order and exactly-once (guarantees G4 and G5).
"""

from __future__ import annotations

from hmac import compare_digest

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.failures import (
    invalid_argument,
    limit_exceeded,
    sequence_gap,
    session_expired,
)
from coordsvc.statemachine.layout import (
    EPHEMERALS,
    RESULTS,
    SESSIONS,
    numbered_path,
    result_key,
    result_position,
    session_key,
)
from coordsvc.statemachine.outcomes import WriteOutcome, WriteStatus
from coordsvc.statemachine.records import Session, decode_session, encode_session
from coordsvc.statemachine.result_records import decode_results, encode_result, encode_results
from coordsvc.statemachine.results import ErrorCode, Failure, WriteResult
from coordsvc.statemachine.store import Store
from coordsvc.statemachine.types import Limits

CLIENT_NAME_LENGTH_MAX = 256
SECRET_BYTES_MAX = 256
LARGE_RESULT_BYTES = 1024
"""Results up to this size are bounded by their number alone; larger ones by their bytes too."""

_LARGEST_SESSION_ID = (1 << 63) - 1


class SessionTable:
    """All sessions by number, loaded whole: their number and size are bounded by the limits."""

    __slots__ = ("_dirty", "_fresh", "_limits", "_outdated", "next_session_id", "sessions")

    def __init__(self, store: Store, limits: Limits, next_session_id: int) -> None:
        self.next_session_id = next_session_id
        self.sessions: dict[int, Session] = {}
        self._limits = limits
        self._dirty: dict[int, None] = {}
        self._fresh: dict[int, list[bytes]] = {}  # by session: its newest results, not stored yet
        self._outdated: list[bytes] = []  # keys of stored results that nobody will ask for again
        self._load(store)

    def _load(self, store: Store) -> None:
        for key, record in store.scan(*SESSIONS):
            session = decode_session(f"session key {key.hex()}", record)
            if key != session_key(session.session_id) or session.session_id >= self.next_session_id:
                raise CorruptStateError(f"session {session.session_id} is stored under a wrong key or number")
            self.sessions[session.session_id] = session
        for key, record in store.scan(*RESULTS):
            self._load_results(key, record)
        for session in self.sessions.values():
            if len(session.results) != session.last_sequence - session.acknowledged_sequence:
                raise CorruptStateError(f"results of session {session.session_id} are missing")
        for key, _ in store.scan(*EPHEMERALS):
            session_id, path = numbered_path(key)
            if session_id not in self.sessions:
                raise CorruptStateError(
                    f"the ephemeral node {path} belongs to the unknown session {session_id}"
                )
            self.sessions[session_id].ephemerals[path] = None

    def _load_results(self, key: bytes, record: bytes) -> None:
        session_id, first = result_position(key)
        results = decode_results(f"results from {first} of session {session_id}", record)
        last = first + len(results) - 1
        owner = self.sessions.get(session_id)
        if owner is None or not owner.acknowledged_sequence < last <= owner.last_sequence:
            raise CorruptStateError(f"results {first} to {last} of session {session_id} belong to no session")
        owner.stored_results.append((first, last))
        for sequence, (zxid, result, size) in enumerate(results, first):
            if sequence > owner.acknowledged_sequence:
                owner.results[sequence] = (zxid, result)
                _count_result(owner, sequence, size)

    # -- exactly once ---------------------------------------------------------------------------

    def is_full(self, session: Session) -> bool:
        """Whether the session must acknowledge results before it may write again."""
        return (
            len(session.results) >= self._limits.results_per_session
            or session.large_results_bytes >= self._limits.results_bytes_per_session
        )

    def refuse(self, session: Session, sequence: int, zxid: int) -> WriteOutcome:
        """Answer a write that must not be carried out (now): out of its turn, or the session is full."""
        last = session.last_sequence
        if sequence <= last:
            return self._repeat(session, sequence, zxid)
        if sequence > last + 1:
            return WriteOutcome(WriteStatus.GAP, sequence_gap(last, sequence), zxid, [])
        reason = (
            f"write {sequence} was not carried out: {len(session.results)} results of this session are not "
            "acknowledged yet; acknowledge them and send it again"
        )
        return WriteOutcome(WriteStatus.GAP, limit_exceeded("", reason), zxid, [])

    def _repeat(self, session: Session, sequence: int, zxid: int) -> WriteOutcome:
        if sequence < 1:
            failure = invalid_argument("", f"the sequence of a write must be 1 or more, not {sequence}")
            return WriteOutcome(WriteStatus.GAP, failure, zxid, [])
        first = session.results.get(sequence)
        if first is not None:
            return WriteOutcome(WriteStatus.REPEATED, first[1], first[0], [])
        assert sequence <= session.acknowledged_sequence, "S4: a result that was not acknowledged is missing"
        message = f"write {sequence} was carried out, and its result forgotten when you acknowledged it"
        return WriteOutcome(WriteStatus.REPEATED, Failure(ErrorCode.UNKNOWN_OUTCOME, message), zxid, [])

    def record(self, session: Session, sequence: int, zxid: int, result: WriteResult) -> None:
        """Remember the answer to the write that was just carried out."""
        session.last_sequence = sequence
        session.results[sequence] = (zxid, result)
        session_id = session.session_id
        record = encode_result(zxid, result)
        fresh = self._fresh.get(session_id)
        if fresh is None:
            self._fresh[session_id] = [record]
            self._dirty[session_id] = None
        else:
            fresh.append(record)
        if len(record) > LARGE_RESULT_BYTES:
            _count_result(session, sequence, len(record))

    def acknowledge(self, session_id: int, sequence: int) -> None:
        """Forget the results up to `sequence`: the client has them."""
        session = self.sessions.get(session_id)
        if session is None:
            return
        sequence = min(sequence, session.last_sequence)
        if sequence <= session.acknowledged_sequence:
            return
        for acknowledged in range(session.acknowledged_sequence + 1, sequence + 1):
            del session.results[acknowledged]
            if session.large_results:
                session.large_results_bytes -= session.large_results.pop(acknowledged, 0)
        session.acknowledged_sequence = sequence
        stored = session.stored_results
        while stored and stored[0][1] <= sequence:
            self._outdated.append(result_key(session_id, stored.popleft()[0]))
        self._dirty[session_id] = None

    # -- coming and going -----------------------------------------------------------------------

    def open(self, secret: bytes, timeout_ms: int, client_name: str, opened_ms: int) -> Session | Failure:
        """Add a session with the next number; its owner is not set yet."""
        limits = self._limits
        if not 1 <= len(secret) <= SECRET_BYTES_MAX:
            return invalid_argument(
                "", f"a secret must have 1 to {SECRET_BYTES_MAX} bytes, not {len(secret)}"
            )
        if len(client_name) > CLIENT_NAME_LENGTH_MAX:
            return invalid_argument("", f"a client name may have {CLIENT_NAME_LENGTH_MAX} characters at most")
        if len(self.sessions) >= limits.sessions:
            return limit_exceeded(
                "", f"there are {len(self.sessions)} sessions, which is the limit; try again later"
            )
        assert self.next_session_id <= _LARGEST_SESSION_ID, "S6: session numbers are used up"
        timeout_ms = min(max(timeout_ms, limits.session_timeout_ms_min), limits.session_timeout_ms_max)
        session = Session(self.next_session_id, secret, timeout_ms, client_name, opened_ms)
        self.next_session_id += 1
        self.sessions[session.session_id] = session
        return session

    def authenticate(self, session_id: int, secret: bytes) -> Session | Failure:
        """Return the session if it lives and this is its secret."""
        session = self.sessions.get(session_id)
        if session is None or not compare_digest(session.secret, secret):
            return session_expired(session_id)
        return session

    def set_owner(self, session: Session, member: str, connection: int) -> None:
        """Note which connection speaks for the session from now on."""
        session.owner = (member, connection)
        self._dirty[session.session_id] = None

    def remove(self, session: Session) -> None:
        """Forget the session and its results. Its ephemerals must be gone."""
        assert not session.ephemerals, "Z4: a session ends with its ephemerals"
        self._outdated.extend(result_key(session.session_id, first) for first, _ in session.stored_results)
        self._fresh.pop(session.session_id, None)
        del self.sessions[session.session_id]
        self._dirty[session.session_id] = None

    def follow(self, change: Change) -> None:
        """Keep the sets of ephemerals up to date with a change of the tree."""
        owner = change.stat.ephemeral_owner
        if not owner or change.type is ChangeType.CHANGED:
            return
        ephemerals = self.sessions[owner].ephemerals
        if change.type is ChangeType.CREATED:
            ephemerals[change.path] = None
        else:
            del ephemerals[change.path]

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Hand over what is to be written, and go on as if it were."""
        for session_id in self._dirty:
            session = self.sessions.get(session_id)
            if session is None:
                deletes.append(session_key(session_id))
            else:
                puts.append((session_key(session_id), encode_session(session)))
        for session_id, fresh in self._fresh.items():
            session = self.sessions[session_id]
            first = session.last_sequence - len(fresh) + 1
            if session.acknowledged_sequence < session.last_sequence:
                session.stored_results.append((first, session.last_sequence))
                puts.append((result_key(session_id, first), encode_results(fresh)))
        deletes.extend(self._outdated)
        self._dirty.clear()
        self._fresh.clear()
        self._outdated.clear()


def _count_result(session: Session, sequence: int, size: int) -> None:
    """Count a result towards the session's bytes if it is large."""
    if size <= LARGE_RESULT_BYTES:
        return
    session.large_results[sequence] = size
    session.large_results_bytes += size
