"""A scripted server: `Session.Attach` and `History` over real gRPC, with a tiny tree and switches for faults.

Rule of this file: it keeps the contract of the wire (exactly once, events before the answers that show a
later state) and breaks nothing but what a test asks it to break.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from tests.unit.client.fake_tree import FakeTree

Code = data_pb2.ErrorCode
Item = coordination_pb2.ServerItem
ClientFrame = coordination_pb2.ClientFrame
Call = grpc.aio.ServicerContext[coordination_pb2.ClientFrame, coordination_pb2.ServerFrame]
UnaryRead = (
    coordination_pb2.GetRequest | coordination_pb2.ExistsRequest | coordination_pb2.ListChildrenRequest
)
UnaryContext = grpc.aio.ServicerContext[UnaryRead, data_pb2.ReadResult]
_UNARY_READS: dict[str, type[UnaryRead]] = {
    "Get": coordination_pb2.GetRequest,
    "Exists": coordination_pb2.ExistsRequest,
    "ListChildren": coordination_pb2.ListChildrenRequest,
}
_ONCE = (data_pb2.ONCE_DATA, data_pb2.ONCE_EXISTS, data_pb2.ONCE_CHILDREN)


@dataclass(eq=False)
class FakeSession:
    session_id: int
    timeout_ms: int
    last_sequence: int = 0
    results: dict[int, data_pb2.WriteResult] = field(default_factory=dict)
    connection: FakeConnection | None = None
    applied: list[data_pb2.Write] = field(default_factory=list)


@dataclass(eq=False)
class FakeConnection:
    session: FakeSession
    call: Call
    watches: dict[int, data_pb2.Watch] = field(default_factory=dict)
    outgoing: asyncio.Queue[list[Item] | None] = field(default_factory=asyncio.Queue)
    held_pings: list[int] = field(default_factory=list)

    def send(self, *items: Item) -> None:
        if items:
            self.outgoing.put_nowait(list(items))


class FakeServer(coordination_pb2_grpc.SessionServicer):
    """One member that is the whole cluster. Several `ports` stand for several members."""

    def __init__(self) -> None:
        self.tree = FakeTree()
        self.sessions: dict[int, FakeSession] = {}
        self.frames: list[ClientFrame] = []
        self.attaches: list[coordination_pb2.Attach] = []
        self.history_begins_after = 0
        self.endpoints: list[str] = []  # told to clients that attach
        # Faults: each is a number of times, or a switch.
        self.drop_before_apply = 0
        self.drop_after_apply = 0
        self.refuse_attaches: list[data_pb2.ErrorCode.ValueType] = []
        self.is_silent = False  # accepts connections, answers nothing
        self.holds_pongs = False
        self.holds_answers = False
        self.on_frame: Callable[[ClientFrame], None] | None = None
        self._held: list[tuple[FakeConnection, list[Item]]] = []
        self._server = grpc.aio.server()
        coordination_pb2_grpc.add_SessionServicer_to_server(self, self._server)
        unary = {
            method: grpc.unary_unary_rpc_method_handler(
                self._read_unattached,
                request_deserializer=kind.FromString,
                response_serializer=data_pb2.ReadResult.SerializeToString,
            )
            for method, kind in _UNARY_READS.items()
        }
        handler = grpc.method_handlers_generic_handler("coordproto.v1.Coordination", unary)
        self._server.add_generic_rpc_handlers((handler,))
        self.port = 0

    async def start(self) -> None:
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def live_sessions(self) -> list[FakeSession]:
        return list(self.sessions.values())

    def names(self, path: str) -> list[str]:
        """Return the children of a node, as the server sees them."""
        if path not in self.tree.nodes:
            return []
        return list(self.tree.children(data_pb2.ListChildren(path=path)).names)

    # -----------------------------------------------------------------------------------------
    # What a test can do to it

    def expire(self, session_id: int) -> None:
        """End a session, as if it had been silent for too long."""
        session = self.sessions.pop(session_id)
        before = len(self.tree.changes)
        self.tree.end_session(session_id)
        self._tell_watchers(before)
        if session.connection is not None:
            self._fail(session.connection, Code.SESSION_EXPIRED, "the session has expired")

    def drop_connections(self) -> None:
        for session in self.sessions.values():
            if session.connection is not None:
                session.connection.outgoing.put_nowait(None)

    def move_clients(self) -> None:
        for session in self.sessions.values():
            if session.connection is not None:
                session.connection.send(Item(move=coordination_pb2.Move(reason="stopping")))

    def change_members(self, endpoints: list[str]) -> None:
        """Tell everybody, now and from now on, where the members are."""
        self.endpoints = endpoints
        for session in self.sessions.values():
            if session.connection is not None:
                session.connection.send(Item(endpoints=coordination_pb2.Endpoints(endpoints=endpoints)))

    def write(self, write: data_pb2.Write) -> data_pb2.WriteResult:
        """Write as somebody else would."""
        before = len(self.tree.changes)
        result = self.tree.write(write, 0)
        self._tell_watchers(before)
        return result

    def set(self, path: str, value: bytes) -> None:
        message = data_pb2.Set(path=path, value=value)
        if path in self.tree.nodes:
            self.write(data_pb2.Write(set=message))
        else:
            self.write(data_pb2.Write(create=data_pb2.Create(path=path, value=value, parents=True)))

    def delete(self, path: str) -> None:
        result = self.write(data_pb2.Write(delete=data_pb2.Delete(path=path)))
        assert not result.HasField("error"), result

    def release_answers(self) -> None:
        self.holds_answers = False
        held, self._held = self._held, []
        for connection, items in held:
            connection.send(*items)

    def watch_count(self) -> int:
        return sum(
            len(session.connection.watches) for session in self.sessions.values() if session.connection
        )

    # -----------------------------------------------------------------------------------------
    # Session.Attach

    async def Attach(  # noqa: N802  # the name in the .proto
        self, request_iterator: AsyncIterator[ClientFrame], context: Call
    ) -> AsyncIterator[coordination_pb2.ServerFrame]:
        first = await anext(request_iterator)
        self.attaches.append(first.attach)
        if self.is_silent:
            await asyncio.Event().wait()
        refusal = self._refusal(first.attach)
        if refusal is not None:
            error = data_pb2.Error(code=refusal, message=data_pb2.ErrorCode.Name(refusal))
            yield coordination_pb2.ServerFrame(items=[Item(error=error)])
            return
        connection = self._accept(first.attach, context)
        reader = asyncio.create_task(self._read(request_iterator, connection))
        try:
            while (items := await connection.outgoing.get()) is not None:
                yield coordination_pb2.ServerFrame(items=items)
        finally:
            reader.cancel()
            if connection.session.connection is connection:
                connection.session.connection = None

    def _refusal(self, attach: coordination_pb2.Attach) -> data_pb2.ErrorCode.ValueType | None:
        if self.refuse_attaches:
            return self.refuse_attaches.pop(0)
        if attach.session_id and attach.session_id not in self.sessions:
            return Code.SESSION_EXPIRED
        return None

    def _accept(self, attach: coordination_pb2.Attach, call: Call) -> FakeConnection:
        if attach.session_id:
            session = self.sessions[attach.session_id]
            assert attach.secret == b"secret %d" % session.session_id
        else:
            number = 1 + len(self.attaches) * 16
            session = self.sessions[number] = FakeSession(number, attach.timeout_ms)
        older = session.connection
        if older is not None:
            self._fail(older, Code.SESSION_MOVED, "attached elsewhere")
        connection = session.connection = FakeConnection(session, call)
        attached = coordination_pb2.Attached(
            session_id=session.session_id,
            secret=b"secret %d" % session.session_id,
            timeout_ms=session.timeout_ms,
            last_sequence=session.last_sequence,
            zxid=self.tree.zxid,
            member="fake",
            endpoints=self.endpoints,
        )
        connection.send(Item(attached=attached))
        for watch in attach.watches:
            self._set_watch(connection, watch, watch.since)
        return connection

    async def _read(self, frames: AsyncIterator[ClientFrame], connection: FakeConnection) -> None:
        async for frame in frames:
            self.frames.append(frame)
            if self.on_frame is not None:
                self.on_frame(frame)
            if connection.session.session_id in self.sessions:  # What comes after its end has no effect.
                self._take(frame, connection)
        connection.outgoing.put_nowait(None)

    def _take(self, frame: ClientFrame, connection: FakeConnection) -> None:
        has_operations = bool(frame.writes.writes or frame.reads)
        if has_operations and self.drop_before_apply:
            self.drop_before_apply -= 1
            connection.outgoing.put_nowait(None)
            return
        items: list[Item] = []
        for number in frame.cancelled_watches:
            connection.watches.pop(number, None)
        self._apply(frame, connection, items)
        if has_operations and self.drop_after_apply:
            self.drop_after_apply -= 1
            connection.outgoing.put_nowait(None)
            return
        if frame.ping:
            self._ping(frame.ping, connection, items)
        if frame.close:
            self.sessions.pop(connection.session.session_id, None)
            before = len(self.tree.changes)
            self.tree.end_session(connection.session.session_id)
            self._tell_watchers(before)
            items.append(Item(closed=True))
        if items and self.holds_answers:
            self._held.append((connection, items))
        elif items:
            connection.send(*items)

    def _ping(self, number: int, connection: FakeConnection, items: list[Item]) -> None:
        if self.holds_pongs:
            connection.held_pings.append(number)
        else:
            items.append(Item(pong=number))

    def _apply(self, frame: ClientFrame, connection: FakeConnection, items: list[Item]) -> None:
        """Carry out a frame's operations; a read stands after the writes that it names."""
        reads = list(frame.reads)
        sequence = frame.first_sequence
        while reads and reads[0].after_sequence < sequence:
            items.append(self._answer(reads.pop(0), connection))
        for write in frame.writes.writes:
            items.append(Item(write=self._write_once(write, sequence, connection.session)))
            while reads and reads[0].after_sequence <= sequence:
                items.append(self._answer(reads.pop(0), connection))
            sequence += 1
        items += [self._answer(read, connection) for read in reads]

    def _write_once(self, write: data_pb2.Write, sequence: int, session: FakeSession) -> data_pb2.WriteResult:
        if sequence in session.results:
            return session.results[sequence]
        assert sequence == session.last_sequence + 1, "a gap between writes"
        before = len(self.tree.changes)
        result = self.tree.write(write, session.session_id)
        result.sequence = sequence
        session.last_sequence = sequence
        session.results[sequence] = result
        session.applied.append(write)
        self._tell_watchers(before)
        return result

    def _answer(self, read: coordination_pb2.Read, connection: FakeConnection) -> Item:
        kind = read.WhichOneof("op")
        assert kind is not None
        if kind == "watch":
            since = read.watch.since if read.watch.HasField("since") else self.tree.zxid
            self._set_watch(connection, read.watch, since)
            return Item(read=data_pb2.ReadResult(id=read.id, zxid=self.tree.zxid, watching=True))
        operation = getattr(read, kind)
        result = self.tree.read(operation)
        result.id = read.id
        if read.watch_id and not result.HasField("error"):
            kinds = {
                "get": data_pb2.ONCE_DATA,
                "exists": data_pb2.ONCE_EXISTS,
                "list_children": data_pb2.ONCE_CHILDREN,
            }
            watch = data_pb2.Watch(watch_id=read.watch_id, path=operation.path, kind=kinds[kind])
            connection.watches[read.watch_id] = watch
        return Item(read=result)

    # -----------------------------------------------------------------------------------------
    # Watches

    def _set_watch(self, connection: FakeConnection, watch: data_pb2.Watch, since: int) -> None:
        connection.watches[watch.watch_id] = watch
        if since < self.history_begins_after:
            event = data_pb2.Event(type=data_pb2.RESYNC, path=watch.path, zxid=self.history_begins_after)
            connection.send(Item(delivery=data_pb2.Delivery(watch_ids=[watch.watch_id], event=event)))
            since = self.history_begins_after
        for change in [change for change in self.tree.changes if change.zxid > since]:
            connection.send(*self._fired(connection, [watch], change))

    def _tell_watchers(self, first: int) -> None:
        """Tell each connection of a transaction's changes in one frame, as the service does."""
        changes = self.tree.changes[first:]
        for session in self.sessions.values():
            connection = session.connection
            if connection is None:
                continue
            items: list[Item] = []
            for change in changes:
                items += self._fired(connection, list(connection.watches.values()), change)
            connection.send(*items)

    async def _read_unattached(self, request: UnaryRead, context: UnaryContext) -> data_pb2.ReadResult:
        assert request.consistency == data_pb2.STALE
        if isinstance(request, coordination_pb2.GetRequest):
            result = self.tree.read(request.get)
        elif isinstance(request, coordination_pb2.ExistsRequest):
            result = self.tree.read(request.exists)
        else:
            result = self.tree.read(request.list_children)
        if result.HasField("error"):
            await context.abort(grpc.StatusCode.NOT_FOUND, result.error.message)
        return result

    def _fired(
        self, connection: FakeConnection, watches: list[data_pb2.Watch], change: data_pb2.Change
    ) -> list[Item]:
        items = []
        for watch in watches:
            if watch.watch_id not in connection.watches or not _matches(watch, change):
                continue
            if watch.kind in _ONCE:
                del connection.watches[watch.watch_id]
            is_child = watch.kind == data_pb2.ONCE_CHILDREN and change.path != watch.path
            event = data_pb2.Event(
                type=data_pb2.CHILDREN if is_child else change.type,
                path=watch.path if is_child else change.path,
                zxid=change.zxid,
                stat=change.stat,
                value=change.value if watch.with_values else b"",
            )
            items.append(Item(delivery=data_pb2.Delivery(watch_ids=[watch.watch_id], event=event)))
        return items

    def _fail(self, connection: FakeConnection, code: data_pb2.ErrorCode.ValueType, message: str) -> None:
        connection.send(Item(error=data_pb2.Error(code=code, message=message)))
        connection.outgoing.put_nowait(None)


def _matches(watch: data_pb2.Watch, change: data_pb2.Change) -> bool:
    if watch.kind == data_pb2.STREAM_RECURSIVE:
        return change.path == watch.path or change.path.startswith(watch.path.rstrip("/") + "/")
    if watch.kind == data_pb2.ONCE_CHILDREN:
        is_own_end = change.path == watch.path and change.type == data_pb2.DELETED
        is_child = change.type != data_pb2.CHANGED and change.path.rpartition("/")[0] == watch.path
        return is_own_end or is_child
    if watch.kind == data_pb2.ONCE_DATA and change.type == data_pb2.CREATED:
        return False
    return change.path == watch.path
