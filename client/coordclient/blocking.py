"""Operations on znodes for threads: what `Client` offers without the recipes.

Rule of this file: it only waits. All clients of a process share one event loop in a background thread;
every method hands its work over and blocks until it is done. Any number of threads may use one client,
also from callbacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from coordclient.callbacks import Callback
from coordclient.client import AsyncClient
from coordclient.portal import Portal, shared_portal
from coordclient.recipes.faces import iterate
from coordclient.states import State
from coordclient.transactions import Commit, FullPath, TransactionBuilder
from coordclient.types import Consistency, Created, Event, Guard, Node, OperationResult, Stat
from coordclient.watches import BUFFER_EVENTS_MAX, WatchStream

LINEARIZABLE = Consistency.LINEARIZABLE


class BlockingOperations:
    """The znode tree, for threads. `timeout=None` means the client's `request_timeout`."""

    def __init__(
        self,
        endpoints: str | Iterable[str] = "127.0.0.1:7400",
        *,
        session_timeout: float = 10.0,
        connect_timeout: float = 10.0,
        request_timeout: float = 10.0,
        name: str = "",
        namespace: str = "",
    ) -> None:
        """Prepare a client; does no I/O. The arguments are those of `AsyncClient`."""
        self.asynchronous = AsyncClient(
            endpoints,
            session_timeout=session_timeout,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
            name=name,
            namespace=namespace,
            callbacks_in_threads=True,
        )
        self._portal: Portal | None = None

    def __repr__(self) -> str:
        return repr(self.asynchronous).replace("AsyncClient", "Client", 1)

    @property
    def portal(self) -> Portal:
        """For recipes: the way to the event loop that all blocking clients of a process share."""
        if self._portal is None:
            self._portal = shared_portal()
        return self._portal

    # -----------------------------------------------------------------------------------------
    # Life

    def connect(self, *, timeout: float | None = None) -> Self:
        """Open a session and return once it is there; ConnectionLostError says why it could not be."""
        self.portal.run(self.asynchronous.connect(timeout=timeout))
        return self

    def close(self) -> None:
        """End the session and let everything go. Idempotent, bounded in time, safe in `finally`."""
        self.portal.run(self.asynchronous.close())

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """Return whether the client is CONNECTED, SUSPENDED, LOST or CLOSED at this moment. Asks nobody.

        Before `connect` it is SUSPENDED; in a child that was forked it is CLOSED.
        """
        return self.asynchronous.state

    @property
    def session_id(self) -> int:
        """Return the id of the present session; 0 if there is none, as in a child that was forked."""
        return self.asynchronous.session_id

    @property
    def session_timeout(self) -> float:
        """Return the session timeout in seconds, as the service granted it; before that, as asked for."""
        return self.asynchronous.session_timeout

    @property
    def valid_until(self) -> float:
        """Return until when the session is certainly alive, in seconds of `coordclient.clock.now()`.

        Minus infinity if there is none. Each renewal moves it on; it counts from when that was sent.
        """
        return self.asynchronous.valid_until

    @property
    def member(self) -> str:
        """Return the name of the member that the client was last attached to; empty before the first time."""
        return self.asynchronous.member

    @property
    def last_zxid(self) -> int:
        """Return the newest transaction that this client has seen; pass it on as another's `min_zxid=`."""
        return self.asynchronous.last_zxid

    def add_listener(self, listener: Callback[State]) -> None:
        """Call `listener(state)` at every change of state, in order, in a thread of its own."""
        self.asynchronous.add_listener(listener)

    def remove_listener(self, listener: Callback[State]) -> None:
        """Call a listener no more. Idempotent."""
        self.asynchronous.remove_listener(listener)

    # -----------------------------------------------------------------------------------------
    # Writes

    def create(
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

        The arguments are those of `AsyncClient.create`; `ttl` and `linger` are in seconds.

        Raises:
            NodeExistsError: There is such a node.
            NoNodeError: The parent is missing, and `parents` was not asked for.
            GuardFailedError: The grant that was given as `guard` is gone.
        """
        created = self.create_node(
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

    def create_node(
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
        return self.portal.run(
            self.asynchronous.create_node(
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
        )

    def set(
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
        return self.portal.run(
            self.asynchronous.set(path, value, version=version, guard=guard, timeout=timeout)
        )

    def delete(
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
        return self.portal.run(
            self.asynchronous.delete(
                path,
                version=version,
                recursive=recursive,
                missing_ok=missing_ok,
                guard=guard,
                timeout=timeout,
            )
        )

    def ensure_path(self, path: str, *, timeout: float | None = None) -> None:
        """Make sure that a node and its ancestors exist: empty ones are made, what is there stays."""
        self.portal.run(self.asynchronous.ensure_path(path, timeout=timeout))

    def transaction(self, *, guard: Guard | None = None, timeout: float | None = None) -> Transaction:
        """Begin a transaction: use it in a `with` statement, or call its `commit()`."""
        inner = self.asynchronous.transaction(guard=guard, timeout=timeout)
        return Transaction(self.portal, self.asynchronous.full_path, inner.committer)

    # -----------------------------------------------------------------------------------------
    # Reads

    def get(
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
        return self.portal.run(
            self.asynchronous.get(
                path, watch=watch, consistency=consistency, min_zxid=min_zxid, timeout=timeout
            )
        )

    def exists(
        self,
        path: str,
        *,
        watch: Callback[Event] | None = None,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> Stat | None:
        """Return a node's stat, or None. `watch` is called once, when it is created, set or deleted."""
        return self.portal.run(
            self.asynchronous.exists(
                path, watch=watch, consistency=consistency, min_zxid=min_zxid, timeout=timeout
            )
        )

    def get_children(
        self,
        path: str,
        *,
        watch: Callback[Event] | None = None,
        consistency: Consistency = LINEARIZABLE,
        min_zxid: int = 0,
        timeout: float | None = None,
    ) -> list[str]:
        """Return the names of the children, sorted. `watch` is called once, when the list changes."""
        return self.portal.run(
            self.asynchronous.get_children(
                path, watch=watch, consistency=consistency, min_zxid=min_zxid, timeout=timeout
            )
        )

    def get_children_nodes(
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
        return self.portal.run(
            self.asynchronous.get_children_nodes(
                path, consistency=consistency, min_zxid=min_zxid, timeout=timeout
            )
        )

    def sync(self, *, timeout: float | None = None) -> int:
        """Return the newest transaction (a zxid) at a moment after this call: a linearizable read of nothing.

        What another client had been told to be done before is visible to every read with this `min_zxid`.
        """
        return self.portal.run(self.asynchronous.sync(timeout=timeout))

    def history(
        self,
        path: str = "/",
        *,
        since: int | None = None,
        follow: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """Iterate over the recorded changes of a path and all below it, in order. See `AsyncClient.history`.

        With `follow` it does not end: it waits for new changes. HistoryTrimmedError: `since` is too long ago.
        """
        feed = self.asynchronous.history(path, since=since, follow=follow, timeout=timeout)
        return iterate(self.portal, feed)

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
    ) -> Watch:
        """Watch a path, with `recursive` and everything below it.

        Use it in a `with` statement and iterate over it. With a callback it begins at once, and the
        callback is called for each event, in order, in a thread of its own, until `close()`.
        """
        stream = self.asynchronous.watch(
            path,
            recursive=recursive,
            callback=callback,
            since=since,
            with_values=with_values,
            buffer_size=buffer_size,
        )
        watch = Watch(self.portal, stream)
        return watch.start() if callback is not None else watch


class Transaction(TransactionBuilder):
    """A transaction of a Client: commits at the end of `with`, unless the body raised."""

    def __init__(self, portal: Portal, full_path: FullPath, commit: Commit) -> None:
        super().__init__(full_path)
        self._portal = portal
        self._commit = commit

    def commit(self) -> list[OperationResult]:
        """Carry the transaction out, all or nothing, and return the answers of the branch that was taken.

        Raises:
            TransactionError: An operation failed; nothing changed. `failed_index` and `cause` say why.
            CompareFailedError: The compares did not hold, and there is nothing in `otherwise`.
        """
        return self._portal.run(self._commit(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.is_committed and not self.is_empty():
            self.commit()


class Watch:
    """The events at a path, in order, for threads. Iterate over it; `close()` ends a waiting iteration."""

    def __init__(self, portal: Portal, stream: WatchStream) -> None:
        self._portal = portal
        self._stream = stream
        self._events: deque[Event] = deque()

    def __repr__(self) -> str:
        return repr(self._stream)

    @property
    def path(self) -> str:
        """Return what is watched, as this client names it."""
        return self._stream.path

    @property
    def zxid(self) -> int:
        """Return the transaction after which the stream has everything."""
        return self._stream.zxid

    def start(self) -> Self:
        """Set the watch. Everything that happens after the return is seen."""
        self._portal.run(self._stream.start())
        return self

    def close(self) -> None:
        """End the stream: whoever iterates over it comes to the end. Idempotent, from any thread."""
        self._portal.run(self._stream.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._events:
            batch = self._portal.run(self._batch(), undo=self._stream.unread)
            self._events.extend(batch)
        if not self._events:
            raise StopIteration
        return self._events.popleft()

    async def _batch(self) -> list[Event]:
        return await self._stream.batch()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
