"""The state machine: applies the commands of the log to the tree and the sessions, and answers reads.

Rule of this file: the same calls in the same order leave byte-identical stores and give equal answers.
Time comes from the log. All that a log entry changed, the applied index too, goes into one atomic write.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordsvc.statemachine import failures, reads
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.commands import Create, Delete, ListChildren, Set, Transaction, Write
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.history import History
from coordsvc.statemachine.invariants import store_checks
from coordsvc.statemachine.layout import CONFIGURATION_KEY, HISTORY, META_KEY, NODES, SESSIONS
from coordsvc.statemachine.operations import Operations
from coordsvc.statemachine.outcomes import WriteOutcome, WriteStatus
from coordsvc.statemachine.paths import ROOT
from coordsvc.statemachine.records import Meta, Session, decode_meta, encode_meta
from coordsvc.statemachine.results import Children, ExistsResult, Failure, Node, WriteResult
from coordsvc.statemachine.sessions import SessionTable
from coordsvc.statemachine.store import Records, Store
from coordsvc.statemachine.transactions import carry_out
from coordsvc.statemachine.tree import Tree
from coordsvc.statemachine.types import Limits, Stat
from coordsvc.statemachine.znodes import Znode

__all__ = ["CorruptStateError", "Session", "StateMachine", "WriteOutcome", "WriteStatus"]

CACHE_BYTES = 32 << 20


class StateMachine:
    """One member's replica of the tree. `begin`, any number of commands, `commit`; reads at any time.

    Several log entries may share a commit: `begin` them one after the other. Answers and digest stay equal,
    but the results and changes of a commit share a record, so only members that commit at the same entries
    have stores that are equal byte for byte.
    """

    def __init__(self, store: Store, limits: Limits, cache_bytes: int = CACHE_BYTES) -> None:
        """Load what the store holds. Raises CorruptStateError if that cannot be right."""
        record = store.get(META_KEY)
        if record is None:
            _expect_empty(store)
        meta = decode_meta(record) if record is not None else Meta()
        self.limits = limits
        self.applied_index = meta.applied_index  # of the newest commit
        self.applied_term = meta.applied_term
        self.zxid = meta.zxid
        self.time_ms = meta.time_ms
        self.node_count = meta.node_count
        self.configuration = store.get(CONFIGURATION_KEY) or b""
        self._index = meta.applied_index
        self._term = meta.applied_term
        self._store = store
        self._tree = Tree(store, cache_bytes, meta.digest)
        self._sessions = SessionTable(store, limits, meta.next_session_id)
        self._history = History(store, limits, meta)
        self._operations = Operations(self._tree, limits)
        self._has_new_configuration = False
        self.sessions = self._sessions.sessions
        if record is None:
            self._plant()

    def _plant(self) -> None:
        """Make the root, the only node that no transaction creates."""
        self._tree.replace(ROOT, None, Znode(b"", Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)))
        self._tree.settle()
        self.node_count = 1

    @property
    def digest(self) -> int:
        """A hash of the tree as of the newest commit: equal on all members that have applied as much."""
        return self._tree.digest

    @property
    def oldest_history_zxid(self) -> int:
        """The first transaction that the history still has; one past the newest if it has none."""
        return self._history.first_zxid

    # -- log entries ----------------------------------------------------------------------------

    def begin(self, index: int, term: int, time_ms: int) -> None:
        """Start to apply the log entry at `index`. Time never goes back, whatever the leader's clock does."""
        assert index > self._index, f"R10: entry {index} was applied already, we are at {self._index}"
        assert term >= self._term, f"R4: entry {index} is of term {term}, we are at {self._term}"
        self._index = index
        self._term = term
        self.time_ms = max(self.time_ms, time_ms)

    def set_configuration(self, configuration: bytes) -> None:
        """Keep the configuration of the cluster with the next commit."""
        self.configuration = configuration
        self._has_new_configuration = True

    def commit(self) -> None:
        """Write all that changed since the last commit, as one."""
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        self._tree.flush(puts, deletes)
        self._sessions.flush(puts, deletes)
        self._history.flush(puts, deletes)
        if self._has_new_configuration:
            puts.append((CONFIGURATION_KEY, self.configuration))
            self._has_new_configuration = False
        self.applied_index = self._index
        self.applied_term = self._term
        puts.append((META_KEY, encode_meta(self._meta())))
        self._store.write(puts, deletes)

    def _meta(self) -> Meta:
        return Meta(
            applied_index=self.applied_index,
            applied_term=self.applied_term,
            zxid=self.zxid,
            time_ms=self.time_ms,
            digest=self._tree.digest,
            node_count=self.node_count,
            next_session_id=self._sessions.next_session_id,
            history_first_zxid=self._history.first_zxid,
            history_changes=self._history.changes,
            history_bytes=self._history.bytes,
        )

    # -- writes ---------------------------------------------------------------------------------

    def write(self, session_id: int, sequence: int, write: Write) -> WriteOutcome:
        """Carry out one write. `session_id` 0: of no session, as often as it is sent."""
        if not session_id:
            result, changes = self._carry_out(None, write)
            return WriteOutcome(WriteStatus.APPLIED, result, self.zxid, changes)
        session = self.sessions.get(session_id)
        if session is None:
            return WriteOutcome(
                WriteStatus.UNKNOWN_SESSION, failures.session_expired(session_id), self.zxid, []
            )
        if sequence != session.last_sequence + 1 or self._sessions.is_full(session):
            return self._sessions.refuse(session, sequence, self.zxid)
        result, changes = self._carry_out(session, write)
        self._sessions.record(session, sequence, self.zxid, result)
        return WriteOutcome(WriteStatus.APPLIED, result, self.zxid, changes)

    def _carry_out(self, session: Session | None, write: Write) -> tuple[WriteResult, list[Change]]:
        operations = self._operations
        operations.begin(session, self.zxid + 1, self.time_ms)
        if write.guards:
            refusal = operations.hold_guards(write.guards)
            if refusal is not None:
                return refusal, []
        operation = write.operation
        result: WriteResult
        if isinstance(operation, Set):
            result = operations.set(operation)
        elif isinstance(operation, Create):
            result = operations.create(operation)
        elif isinstance(operation, Delete):
            result = operations.delete(operation)
        elif isinstance(operation, Transaction):
            result = carry_out(operations, operation)
        elif operation.reason:
            result = failures.limit_exceeded("", operation.reason)
        else:
            result = failures.invalid_argument("", "the write names no operation that this version knows")
        return result, self._conclude()

    def _conclude(self) -> list[Change]:
        """Make what the operations did a transaction, if they did anything."""
        self._tree.settle()
        changes = self._operations.changes
        if not changes:
            return changes
        self.zxid += 1
        self._history.append(self.zxid, changes)
        for change in changes:
            if change.type is ChangeType.CREATED:
                self.node_count += 1
            elif change.type is ChangeType.DELETED:
                self.node_count -= 1
            if change.stat.ephemeral_owner:
                self._sessions.follow(change)
        return changes

    def reap(self, paths: list[str]) -> tuple[int, list[Change]]:
        """Delete those of the nodes that are due by the time of this entry, in one transaction.

        Returns:
            The transaction (the newest one if nothing was due) and its changes.
        """
        self._operations.begin(None, self.zxid + 1, self.time_ms)
        for path in paths:
            self._operations.reap(path)
        changes = self._conclude()
        return self.zxid, changes

    # -- sessions -------------------------------------------------------------------------------

    def acknowledge(self, session_id: int, sequence: int) -> None:
        """Forget the results up to `sequence`: the client has them."""
        self._sessions.acknowledge(session_id, sequence)

    def open_session(
        self, secret: bytes, timeout_ms: int, client_name: str, member: str, connection: int
    ) -> Session | Failure:
        """Open a session, attached to that connection of that member."""
        session = self._sessions.open(secret, timeout_ms, client_name, self.time_ms)
        if isinstance(session, Session):
            self._sessions.set_owner(session, member, connection)
        return session

    def attach_session(
        self, session_id: int, secret: bytes, member: str, connection: int
    ) -> Session | Failure:
        """Attach a session to another connection; the one before it is over."""
        session = self._sessions.authenticate(session_id, secret)
        if isinstance(session, Session):
            self._sessions.set_owner(session, member, connection)
        return session

    def end_session(self, session_id: int, *, expired: bool = False) -> tuple[bool, int, list[Change]]:
        """Close or expire a session: all its ephemerals go in one transaction, sorted by path.

        Args:
            expired: Nobody closed it, so those that linger leave a grave, in the same transaction.

        Returns:
            Whether there was such a session, the transaction (the newest one if nothing went), its changes.
        """
        session = self.sessions.get(session_id)
        if session is None:
            return False, self.zxid, []
        self._operations.begin(None, self.zxid + 1, self.time_ms)
        self._operations.remove_all(sorted(session.ephemerals), leaves_graves=expired)
        changes = self._conclude()
        self._sessions.remove(session)
        return True, self.zxid, changes

    # -- reads ----------------------------------------------------------------------------------

    def get(self, path: str) -> Node | Failure:
        """Return the node at `path`."""
        return reads.get(self._tree, self.limits, path)

    def exists(self, path: str) -> ExistsResult | Failure:
        """Return the stat of the node at `path`, or that there is none."""
        return reads.exists(self._tree, self.limits, path)

    def list_children(self, request: ListChildren) -> Children | Failure:
        """Return one page of children."""
        return reads.list_children(
            self._tree, self.limits, request, reads.Room(self.limits.children_page_bytes)
        )

    def reap_candidates(self, now_ms: int, limit: int) -> list[str]:
        """Return up to `limit` containers and TTL nodes that are due, as of the newest commit."""
        return self._tree.due(now_ms, limit)

    def history(self, since: int, limit: int) -> list[Change] | None:
        """Return the changes after the transaction `since`, in order; None if some of them were trimmed.

        Whole transactions only. It stops at the first one that reaches `limit` changes, or a page's bytes.
        """
        return self._history.since(since, limit, self.limits.children_page_bytes)

    def verify(self) -> None:
        """Read the whole store and prove that it agrees with itself. Raises CorruptStateError."""
        for _ in self.verification(self._store):
            pass

    def verification(self, records: Records) -> Iterator[None]:
        """Do the same in short steps; it is proved when the iterator ends. Raises CorruptStateError.

        Args:
            records: The store as it is now, pinned: the machine may go on meanwhile.
        """
        assert self._tree.is_clean, "only what is committed can be verified"
        return store_checks(records, self.limits, self._meta(), self.sessions)


def _expect_empty(store: Store) -> None:
    """Refuse a store that has lost its counters."""
    for keys in (NODES, SESSIONS, HISTORY):
        for key, _ in store.scan(*keys):
            raise CorruptStateError(f"the store has records ({key!r}) but no counters: it is damaged")
