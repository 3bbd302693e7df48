"""Calls without a session, as any gRPC client makes them: one request to one member, one answer or none.

A write that was sent and not answered may or may not have been carried out: nobody will ever tell.

Rule of this file: what a member does for such a call is what `coordsvc.api.calls` does.
"""

from __future__ import annotations

from collections.abc import Callable

from coordproto.v1 import coordination_pb2, data_pb2
from tests.simulation.client_links import ClientHost, ClientLink, ClientNetwork, ServerEnd
from tests.simulation.clients.notebook import Call, Notebook
from tests.simulation.world import World

_READ_ID = 1
_REFUSED = "refused"


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
        self._link.become(_UnaryEnd(self._link, network.hosts[member], call.request))
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
            self._closed(f"the member said {kind}")
            return
        call = self._call
        call.completed_ns = self._world.now_ns
        call.outcome = item.write if kind == "write" else item.read
        self._notebook.newest_zxid = max(self._notebook.newest_zxid, call.outcome.zxid)
        self._end(kind)

    def _closed(self, reason: str) -> None:
        self._call.may_have_been_applied = reason != _REFUSED and isinstance(
            self._call.request, data_pb2.Write
        )
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
        self, link: ClientLink, host: ClientHost, request: data_pb2.Write | coordination_pb2.Read
    ) -> None:
        super().__init__(link, host)
        self._request = request

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
        self.wake()
