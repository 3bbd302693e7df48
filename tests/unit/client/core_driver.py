"""A session core with the other end in the hands of the test: plain values, no sockets, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from coordclient.pipeline import Operation
from coordclient.session import SessionCore
from coordclient.states import State
from coordclient.types import Event
from coordclient.watch_records import STREAM, WatchRecord
from coordproto.v1 import coordination_pb2, data_pb2

TIMEOUT_S = 10.0
FAR = 1e9


class CoreDriver:
    """Holds a core and the time, and speaks for the service."""

    def __init__(self) -> None:
        self.core = SessionCore(timeout_ms=int(TIMEOUT_S * 1000), client_name="test")
        self.now = 100.0

    # The connection

    def attach(self, *, session_id: int = 7, last_sequence: int = 0) -> coordination_pb2.Attach:
        """Open a connection and let the service accept it; return what the client asked for."""
        asked = self.begin_attach()
        self.accept(session_id=session_id, last_sequence=last_sequence)
        return asked

    def begin_attach(self) -> coordination_pb2.Attach:
        frame = coordination_pb2.ClientFrame.FromString(self.core.attach_frame(self.now))
        return frame.attach

    def accept(
        self, *, session_id: int = 7, last_sequence: int = 0, endpoints: Iterable[str] = ("a:1", "b:1")
    ) -> None:
        self.say(
            attached=coordination_pb2.Attached(
                session_id=session_id,
                secret=b"secret",
                timeout_ms=int(TIMEOUT_S * 1000),
                last_sequence=last_sequence,
                member="a",
                endpoints=endpoints,
            )
        )

    def reconnect(self) -> coordination_pb2.Attach:
        self.core.connection_lost()
        return self.attach(session_id=self.core.session_id)

    # What the client does

    def submit_set(self, value: bytes, *, deadline: float = FAR) -> Operation:
        write = data_pb2.Write(set=data_pb2.Set(path="/a", value=value))
        operation = Operation(deadline, write=write)
        self.core.submit(operation)
        return operation

    def submit_get(self, path: str = "/a", *, deadline: float = FAR) -> Operation:
        operation = Operation(deadline, read=coordination_pb2.Read(get=data_pb2.Get(path=path)))
        self.core.submit(operation)
        return operation

    def watch(self, path: str = "/a", *, since: int | None = None, zxid: int = 0) -> WatchRecord:
        """Set a stream, and let the service confirm it at `zxid`."""
        events: list[Event] = []
        record = WatchRecord(path, STREAM, events.append, since=since)
        self.core.watches.add(record)
        read = coordination_pb2.Read(watch=record.message())
        operation = Operation(FAR, read=read, watch=record)
        self.core.submit(operation)
        self.sent()
        self.say(read=data_pb2.ReadResult(id=operation.sequence, zxid=zxid, watching=True))
        return record

    def sent(self) -> coordination_pb2.ClientFrame:
        """Take the one frame that is ready."""
        frame = self.core.take_frame(self.now)
        assert frame is not None, f"nothing to send: {self.core}"
        return coordination_pb2.ClientFrame.FromString(frame)

    def frames_sent(self) -> list[int]:
        """Take all frames that are ready; return the numbers of their operations."""
        counts = []
        while (data := self.core.take_frame(self.now)) is not None:
            frame = coordination_pb2.ClientFrame.FromString(data)
            counts.append(len(frame.writes.writes) + len(frame.reads))
        return counts

    def sends_nothing(self) -> bool:
        return self.core.take_frame(self.now) is None

    # What the service says

    def say(self, **item: object) -> None:
        self.say_items([coordination_pb2.ServerItem(**item)])  # type: ignore[arg-type]  # the test's to get right

    def say_items(self, items: Iterable[coordination_pb2.ServerItem]) -> None:
        self.core.receive(coordination_pb2.ServerFrame(items=items), self.now)

    def answer_write(self, sequence: int, *, zxid: int = 1) -> None:
        self.say(write=data_pb2.WriteResult(sequence=sequence, zxid=zxid, set=data_pb2.Stat(mzxid=zxid)))

    def answer_get(self, number: int, *, zxid: int = 1) -> None:
        self.say(read=data_pb2.ReadResult(id=number, zxid=zxid, node=data_pb2.Node(path="/a")))

    def event(self, record: WatchRecord, zxid: int, path: str = "/a") -> None:
        event = data_pb2.Event(type=data_pb2.CHANGED, path=path, zxid=zxid)
        self.say(delivery=data_pb2.Delivery(watch_ids=[record.watch_id], event=event))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)

    # What came out

    def outcomes(self) -> list[tuple[Operation, object]]:
        return list(self.core.take_completed())

    def events(self) -> list[tuple[str, int]]:
        deliveries, self.core.deliveries = self.core.deliveries, []
        return [(event.path, event.zxid) for _, event in deliveries]

    def states(self) -> list[State]:
        transitions, self.core.transitions = self.core.transitions, []
        return transitions


def values(frame: coordination_pb2.ClientFrame) -> list[bytes]:
    return [write.set.value for write in frame.writes.writes]
