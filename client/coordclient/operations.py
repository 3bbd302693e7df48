"""Operations on znodes: what `AsyncClient` offers without the recipes.

Rule of this file: one request, one answer or one `CoordError`; operations take effect in the order in
which they were called.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from coordclient.callbacks import Callback
from coordclient.driver import SessionDriver
from coordclient.errors import (
    CoordError,
    InvalidPathError,
    LimitExceededError,
    NodeExistsError,
    NoNodeError,
    error_from_wire,
)
from coordclient.history import BUFFER_EVENTS_MAX as HISTORY_BUFFER
from coordclient.history import history
from coordclient.lifecycle import Lifecycle
from coordclient.messages import (
    create_mode,
    fill_create,
    fill_delete,
    fill_set,
    guards_of,
    operation_result,
)
from coordclient.pipeline import OPERATION_BYTES_MAX, Answer, Operation
from coordclient.stale_reads import read_stale
from coordclient.transactions import AsyncTransaction, TransactionBuilder
from coordclient.types import (
    Consistency,
    Created,
    Event,
    Guard,
    Node,
    OperationResult,
    Stat,
    node_from_wire,
    stat_from_wire,
)
from coordclient.watch_records import ONCE_CHILDREN, ONCE_DATA, ONCE_EXISTS, WatchRecord
from coordclient.watches import BUFFER_EVENTS_MAX, WatchStream
from coordproto.v1 import coordination_pb2, data_pb2

LINEARIZABLE = Consistency.LINEARIZABLE


class Operations(Lifecycle):
    """The znode tree, as coroutines. `timeout=None` means the client's `request_timeout`."""

    # -----------------------------------------------------------------------------------------
    # Paths

    def full_path(self, path: str) -> str:
        """Return the path as the service knows it: with the namespace of this client before it."""
        if not self.namespace:
            return path
        if not path.startswith("/"):
            raise InvalidPathError('a path must start with "/"', path=path)
        return self.namespace if path == "/" else self.namespace + path

    def relative_path(self, path: str) -> str:
        """Return the path as this client knows it: without its namespace."""
        if not self.namespace or not path.startswith(self.namespace):
            return path
        return path[len(self.namespace) :] or "/"

    def relative_event(self, event: Event) -> Event:
        """For recipes: an event with the path as this client names it, without the namespace."""
        return event._replace(path=self.relative_path(event.path)) if self.namespace else event

    def _error(self, answer: Answer) -> CoordError:
        return error_from_wire(answer.error, path=self.relative_path(answer.error.path))

    # -----------------------------------------------------------------------------------------
    # Writes

    async def create(
        self,
        path: str,
        value: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
        linger: float = 0.0,
        parents: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> str:
        """Create a node and return its path, which for a sequential one ends with its number.

        Args:
            ephemeral: It goes when the session ends.
            container: The service removes it some time after its last child has gone.
            ttl: Seconds after which the service removes it, if it has no children and was not set.
            linger: Of an ephemeral node: if the session *expires* (and is not closed), a node of nobody
                (`ephemeral_owner` 0, a new czxid, so guards on the old one fail) with the same path and value
                takes its place in the same transaction, and is removed so many seconds later.
            parents: Create missing ancestors too, in the same transaction.
            guard: A held lock, a term, or `(path, czxid)`: refused if that is gone.

        Raises:
            NodeExistsError: There is such a node.
            NoNodeError: The parent is missing, and `parents` was not asked for.
            NoChildrenForEphemeralsError: The parent is ephemeral.
            GuardFailedError: The grant that was given as `guard` is gone.
            LimitExceededError: The value or the path is too large, or the session has too many ephemerals.
        """
        created = await self.create_node(
            path,
            value,
            ephemeral=ephemeral,
            sequential=sequential,
            container=container,
            ttl=ttl,
            linger=linger,
            parents=parents,
            guard=guard,
            timeout=timeout,
        )
        return created.path

    async def create_node(
        self,
        path: str,
        value: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
        linger: float = 0.0,
        parents: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> Created:
        """Create a node like `create`, and return its path and stat, as `Created`; same errors."""
        mode = create_mode(
            ephemeral=ephemeral, sequential=sequential, container=container, ttl=ttl, linger=linger
        )
        write = data_pb2.Write()
        fill_create(
            write.create, self.full_path(path), value, mode=mode, ttl=ttl, parents=parents, linger=linger
        )
        result = await self._write(write, guard, timeout)
        created = result.created
        return Created(self.relative_path(created.path), stat_from_wire(created.stat))

    async def set(
        self,
        path: str,
        value: bytes,
        *,
        version: int | None = None,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> Stat:
        """Set a node's value, and return its new stat; with `version` only if that is its present version.

        Applied exactly once while the session lives, however often the connection is lost meanwhile.

        Raises:
            NoNodeError: There is no such node.
            BadVersionError: It has another version; the error has `expected` and `actual`.
            GuardFailedError: The grant that was given as `guard` is gone.
            LimitExceededError: The value is too large: 1 MiB is the default limit.
        """
        write = data_pb2.Write()
        fill_set(write.set, self.full_path(path), value, version)
        return stat_from_wire((await self._write(write, guard, timeout)).set)

    async def delete(
        self,
        path: str,
        *,
        version: int | None = None,
        recursive: bool = False,
        missing_ok: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete a node, with `recursive` and all below it at once; return how many nodes went.

        Raises:
            NoNodeError: There is no such node; with `missing_ok` the answer is 0 instead.
            BadVersionError: `version` is given, and is not the present one.
            NotEmptyError: It has children, and `recursive` was not asked for.
            GuardFailedError: The grant that was given as `guard` is gone.
        """
        write = data_pb2.Write()
        fill_delete(write.delete, self.full_path(path), version, recursive=recursive)
        try:
            return (await self._write(write, guard, timeout)).deleted
        except NoNodeError:
            if not missing_ok:
                raise
            return 0

    async def ensure_path(self, path: str, *, timeout: float | None = None) -> None:
        """Make sure that a node and its ancestors exist: empty ones are made, what is there stays."""
        try:
            await self.create(path, parents=True, timeout=timeout)
        except NodeExistsError:
            return

    def transaction(self, *, guard: Guard | None = None, timeout: float | None = None) -> AsyncTransaction:
        """Begin a transaction: use it with `async with`, or call its `commit()`."""

        async def commit(transaction: TransactionBuilder) -> list[OperationResult]:
            return await self._commit(transaction, guard, timeout)

        return AsyncTransaction(self.full_path, commit)

    async def _commit(
        self, transaction: TransactionBuilder, guard: Guard | None, timeout: float | None
    ) -> list[OperationResult]:
        write = data_pb2.Write(transaction=transaction.message())
        if write.ByteSize() > OPERATION_BYTES_MAX:
            raise LimitExceededError(f"a transaction of {write.ByteSize()} bytes is too large")
        outcome = (await self._write(write, guard, timeout)).transaction
        results = [self._relative_result(operation_result(result)) for result in outcome.results]
        return transaction.take(outcome.succeeded, results)

    def _relative_result(self, result: OperationResult) -> OperationResult:
        if self.namespace and isinstance(result, Created | Node):
            return result._replace(path=self.relative_path(result.path))
        return result

    async def _write(
        self, write: data_pb2.Write, guard: Guard | None, timeout: float | None
    ) -> data_pb2.WriteResult:
        if guard is not None:
            for path, czxid in guards_of(guard):
                write.guards.add(path=self.full_path(path), czxid=czxid)
        answer = await self._perform(Operation(self._deadline(timeout), write=write))
        assert isinstance(answer, data_pb2.WriteResult)
        return answer

    # -----------------------------------------------------------------------------------------
    # Reads

    async def get(
        self,
        path: str,
        *,
        watch: Callback[Event] | None = None,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> Node:
        """Return a node: `path`, `value` and `stat`. `watch` is called once, when it is set or deleted.

        Linearizable unless `consistency` asks for less. `min_zxid`: as new as this transaction, at least.

        Raises:
            NoNodeError: There is no such node; no watch was set.
            RequestTimeoutError: Nobody answered in `timeout` seconds.
        """
        read = coordination_pb2.Read()
        read.get.path = self.full_path(path)
        record = self._one_shot(path, ONCE_DATA, watch)
        result = await self._read(read, consistency, min_zxid, timeout, record)
        node = node_from_wire(result.node)
        return node._replace(path=path) if self.namespace else node

    async def exists(
        self,
        path: str,
        *,
        watch: Callback[Event] | None = None,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> Stat | None:
        """Return a node's stat, or None. `watch` is called once, when it is created, set or deleted."""
        record = self._one_shot(path, ONCE_EXISTS, watch)
        return await self._exists(path, record, consistency, min_zxid, timeout)

    async def exists_with(
        self, path: str, record: WatchRecord, *, timeout: float | None = None
    ) -> Stat | None:
        """For recipes: like `exists`, with a watch that they made and can cancel."""
        return await self._exists(path, record, LINEARIZABLE, 0, timeout)

    def one_shot(self, path: str, sink: Callable[[Event], None]) -> WatchRecord:
        """For recipes: a watch for `exists_with`. `sink` is called on the loop and must not block."""
        return WatchRecord(self.full_path(path), ONCE_EXISTS, sink)

    async def _exists(
        self,
        path: str,
        record: WatchRecord | None,
        consistency: Consistency,
        min_zxid: int,
        timeout: float | None,
    ) -> Stat | None:
        read = coordination_pb2.Read()
        read.exists.path = self.full_path(path)
        result = await self._read(read, consistency, min_zxid, timeout, record)
        return stat_from_wire(result.exists) if result.HasField("exists") else None

    async def get_children(
        self,
        path: str,
        *,
        watch: Callback[Event] | None = None,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> list[str]:
        """Return the names of the children, sorted. `watch` is called once, when the list changes.

        A long list comes in pages, each at least as new as the one before.
        """
        names: list[str] = []
        record = self._one_shot(path, ONCE_CHILDREN, watch)
        async for page in self._pages(path, record, consistency, min_zxid, timeout, with_nodes=False):
            names += page.names
        return names

    async def get_children_nodes(
        self,
        path: str,
        *,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> list[Node]:
        """Return the children with their values and stats, as a list of `Node`, sorted by name.

        A long list comes in pages: each node is as new as the call, but not all are of one moment.

        Raises:
            NoNodeError: There is no such node.
        """
        nodes: list[Node] = []
        async for page in self._pages(path, None, consistency, min_zxid, timeout, with_nodes=True):
            for message in page.nodes:
                node = node_from_wire(message)
                nodes.append(node._replace(path=self.relative_path(node.path)) if self.namespace else node)
        return nodes

    async def page_of_children(
        self, path: str, *, after: str = "", limit: int = 0, timeout: float | None = None
    ) -> tuple[list[str], bool]:
        """For recipes: up to `limit` names of children after `after`, and whether there are more."""
        read = coordination_pb2.Read()
        read.list_children.path = self.full_path(path)
        read.list_children.after = after
        read.list_children.limit = limit
        children = (await self._read(read, LINEARIZABLE, 0, timeout, None)).children
        return list(children.names), children.more

    async def _pages(
        self,
        path: str,
        record: WatchRecord | None,
        consistency: Consistency,
        min_zxid: int,
        timeout: float | None,
        *,
        with_nodes: bool,
    ) -> AsyncIterator[data_pb2.Children]:
        deadline = self._deadline(timeout)
        after = ""
        while True:
            read = coordination_pb2.Read()
            read.list_children.path = self.full_path(path)
            read.list_children.after = after
            read.list_children.with_nodes = with_nodes
            result = await self._read_by(read, consistency, min_zxid, deadline, record)
            children = result.children
            yield children
            if not children.more:
                return
            after = children.names[-1]
            # At least as new as the first page is as new as the call: no need to ask the leader again.
            min_zxid = max(min_zxid, result.zxid)
            consistency = Consistency.SESSION if consistency is LINEARIZABLE else consistency
            record = None

    async def sync(self, *, timeout: float | None = None) -> int:
        """Return the newest transaction (a zxid) at a moment after this call: a linearizable read of nothing.

        What another client had been told to be done before is visible to every read with this `min_zxid`.
        """
        read = coordination_pb2.Read(sync=data_pb2.Sync())
        return (await self._read(read, LINEARIZABLE, 0, timeout, None)).zxid

    def _read(
        self,
        read: coordination_pb2.Read,
        consistency: Consistency,
        min_zxid: int,
        timeout: float | None,
        record: WatchRecord | None,
    ) -> Coroutine[Any, Any, data_pb2.ReadResult]:
        return self._read_by(read, consistency, min_zxid, self._deadline(timeout), record)

    async def _read_by(
        self,
        read: coordination_pb2.Read,
        consistency: Consistency,
        min_zxid: int,
        deadline: float,
        record: WatchRecord | None,
    ) -> data_pb2.ReadResult:
        if consistency:
            read.consistency = int(consistency)  # type: ignore[assignment]  # the numbers are the same
        if min_zxid:
            read.min_zxid = min_zxid
        if consistency is Consistency.STALE and record is None:
            driver = self._running_driver()
            if not driver.core.is_attached:
                return await self._read_unattached(driver, read, deadline)
        if record is not None:
            self._running_driver().core.watches.add(record)
            if record.is_once:
                read.watch_id = record.watch_id
        answer = await self._perform(Operation(deadline, read=read, watch=record))
        assert isinstance(answer, data_pb2.ReadResult)
        return answer

    async def _read_unattached(
        self, driver: SessionDriver, read: coordination_pb2.Read, deadline: float
    ) -> data_pb2.ReadResult:
        """Read without a session: attaching takes a leader, and a stale read must do without one."""
        result = await read_stale(driver.endpoints.known(), read, deadline)
        if result.HasField("error"):
            raise self._error(result)
        return result

    # -----------------------------------------------------------------------------------------
    # Watches

    def watch(
        self,
        path: str,
        *,
        recursive: bool = False,
        callback: Callback[Event] | None = None,
        since: int | None = None,
        with_values: bool = True,
        buffer_size: int = BUFFER_EVENTS_MAX,
    ) -> WatchStream:
        """Watch a path, with `recursive` and everything below it.

        Use the stream with `async with` and `async for`, or `await` it to start it; with a callback only
        the latter, and `close()`.

        Args:
            since: Begin after this transaction; by default with what comes now.
            with_values: Events carry the new value.
        """
        return WatchStream(
            self,
            path,
            recursive=recursive,
            callback=callback,
            since=since,
            with_values=with_values,
            buffer_size=buffer_size,
        )

    async def set_stream(self, record: WatchRecord, *, timeout: float | None) -> int:
        """For streams: set the watch of a record; return the transaction after which it sees everything."""
        core = self._running_driver().core
        core.watches.add(record)
        read = coordination_pb2.Read(watch=record.message())
        deadline = math.inf if timeout == math.inf else self._deadline(timeout)
        answer = await self._perform(Operation(deadline, read=read, watch=record))
        assert isinstance(answer, data_pb2.ReadResult)
        return answer.zxid if record.since is None else record.since

    def cancel_watch(self, record: WatchRecord) -> None:
        """For recipes: take a watch of `one_shot` back. Idempotent, and does not wait for the service."""
        if self._driver is not None and self._core is not None:
            self._core.cancel_watch(record)
            self._driver.wake()

    def _one_shot(
        self, path: str, kind: data_pb2.WatchKind.ValueType, callback: Callback[Event] | None
    ) -> WatchRecord | None:
        """Make a one-shot watch for a read, if one is wanted."""
        if callback is None:
            return None
        subscriber = self.callbacks.subscriber(callback)

        def push(event: Event) -> None:
            subscriber.push(self.relative_event(event))

        return WatchRecord(self.full_path(path), kind, push)

    async def history(
        self,
        path: str = "/",
        *,
        since: int | None = None,
        follow: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Event]:
        """Yield the recorded changes of a path and all below it, in order.

        Args:
            since: Only what came after this transaction; HistoryTrimmedError if that is no longer kept.
                None: everything that is kept.
            follow: Go on with new changes as they happen.
            timeout: Seconds to wait for the first answer.
        """
        until = None if follow else await self.sync(timeout=timeout)
        stream = WatchStream(self, path or "/", recursive=True, since=since or 0, buffer_size=HISTORY_BUFFER)
        async for event in history(stream, since=since, until=until, timeout=timeout):
            yield event
