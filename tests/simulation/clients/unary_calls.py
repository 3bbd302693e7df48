"""Calls without a session, as any gRPC client makes them: one request to one member, one answer or none.

A write that was sent and not answered may or may not have been carried out: nobody will ever tell. One that
its member knows to have stayed with it has failed for certain, and the member says so shortly before the
caller's deadline.

Rule of this file: what a member does for such a call is what `coordsvc.api.calls` does.
"""

from __future__ import annotations

from collections.abc import Callable

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.codec.results import error_item
from coordsvc.statemachine.results import ErrorCode, Failure
from tests.simulation.client_links import ClientHost, ClientLink, ClientNetwork, ServerEnd
from tests.simulation.clients.notebook import Call, Notebook
from tests.simulation.world import World

_READ_ID = 1
_REFUSED = "refused"
_STAYED_WITH_US = (data_pb2.NO_LEADER, data_pb2.REQUEST_TIMEOUT)  # what a write that was not sent ends with


class UnaryCall:
    """One call from its sending to its end; `ended` is called once."""

    def __init__(
        self,
        world: World,
        notebook: Notebook,
        call: Call,
        member: str,
        *,
        within_ns: int,
        ended: Callable[[], None],
    ) -> None:
        network = world.gateway
        assert isinstance(network, ClientNetwork), "calls need the members themselves"
        self._world = world
        self._notebook = notebook
        self._call = call
        self._ended = ended
        self._is_over = False
        call.may_have_been_applied = isinstance(call.request, data_pb2.Write)  # until it is known better
        notebook.calls.append(call)
        self._link = network.connect(call.client, member)
        due_ns = world.now_ns + within_ns
        self._link.become(_UnaryEnd(self._link, network.hosts[member], call.request, world, due_ns))
        self._link.on_items = self._answered
        self._link.on_closed = self._closed
        self._link.send(b"")
        world.at(within_ns, self.give_up)

    def give_up(self) -> None:
        """Wait no longer: the deadline has come, or the process is gone."""
        self._closed("the deadline has passed")

    def _answered(self, items: list[bytes]) -> None:
        item = coordination_pb2.ServerItem.FromString(items[0])
        kind = item.WhichOneof("item")
        if kind not in ("write", "read"):
            code = item.error.code
            has_failed = kind == "error" and code in _STAYED_WITH_US
            self._failed(f"the member said {kind} {code}", may_have_been_applied=not has_failed)
            return
        call = self._call
        call.completed_ns = self._world.now_ns
        call.outcome = item.write if kind == "write" else item.read
        self._notebook.newest_zxid = max(self._notebook.newest_zxid, call.outcome.zxid)
        self._end(kind)

    def _closed(self, reason: str) -> None:
        self._failed(reason, may_have_been_applied=reason != _REFUSED)

    def _failed(self, reason: str, *, may_have_been_applied: bool) -> None:
        if not self._is_over:
            is_write = isinstance(self._call.request, data_pb2.Write)
            self._call.may_have_been_applied = is_write and may_have_been_applied
        self._end(reason)

    def _end(self, how: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._world.trace(self._call.client, "call", self._call.number, how)
        self._link.close()
        self._ended()


class _UnaryEnd(ServerEnd):
    """The member's end of one call."""

    def __init__(
        self,
        link: ClientLink,
        host: ClientHost,
        request: data_pb2.Write | coordination_pb2.Read,
        world: World,
        due_ns: int,
    ) -> None:
        super().__init__(link, host)
        self._request = request
        self._world = world
        self._due_ns = due_ns

    def _handle(self, encoded: bytes) -> None:
        if self.is_over:
            return
        replica = self._host.replica
        connection = self._connection = replica.open_call()
        self._host.server_ends[connection.number] = self
        request = self._request
        if isinstance(request, data_pb2.Write):
            replica.anonymous_write(connection, data_pb2.WriteBatch(writes=[request]).SerializeToString())
        else:
            request.id = _READ_ID
            replica.client_frame(connection, coordination_pb2.ClientFrame(reads=[request]))
        patience_ns = max(0, self._due_ns - self._world.now_ns) * 95 // 100
        self._world.at(patience_ns, lambda: self._host.feed(self._process, self._give_up))
        self.wake()

    def _give_up(self) -> None:
        """Say what is known shortly before the caller goes, unless the answer is on its way."""
        self.wake()
        connection = self._connection
        if self.is_over or self._unread or connection is None:
            return
        replica = self._host.replica
        if replica.was_sent(connection):
            code = ErrorCode.UNKNOWN_OUTCOME
        elif replica.state.leader is None:
            code = ErrorCode.NO_LEADER
        else:
            code = ErrorCode.REQUEST_TIMEOUT
        self._send([error_item(Failure(code, "no answer in time"))])
        self.is_over = True
        self._close_connection()
