"""Callers without sessions that gather at one member while it is in trouble, and ask and write there.

Clients with sessions go elsewhere soon; whoever calls once, or looks up a member by name, does not. What such
callers are told by a member that leads no longer, and does not know it, is what consensus has to get right.

Rule of this file: writes to one node, linearizable reads, and a deadline for each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from coordproto.v1 import coordination_pb2, data_pb2
from tests.simulation.clients.notebook import Call, Notebook
from tests.simulation.clients.unary_calls import UnaryCall
from tests.simulation.world import MILLISECOND, SECOND, World

_DEADLINE_NS = 8 * SECOND
_READS = 10
_SPREAD = 3  # one read of so many goes to another member


class Crowd:
    """All callers of one run. Their names are never used twice."""

    def __init__(self, world: World, members: Sequence[str], notebook: Notebook) -> None:
        self.pending_count = 0
        self._world = world
        self._members = members
        self._notebook = notebook
        self._number = 0
        self._is_calm = False

    def calm(self) -> None:
        """Nobody calls any more; whoever has called is answered, or gives up."""
        self._is_calm = True

    def gather(self, member: str, writes: int, duration_ms: int, *, is_last: bool = False) -> None:
        """Write to `member` soon, and read there for as long as it says. `is_last`: the calm is over."""
        world = self._world
        self._is_calm = self._is_calm and not is_last
        for index in range(writes):
            # The first ones are answered, or just not any more; the last ones come while it is alone.
            delay_ns = world.draw_log(1, max(2, duration_ms), "crowd writes", self._number, index)
            self._call_after(delay_ns * MILLISECOND, member, is_write=True)
        for index in range(_READS):
            delay_ns = duration_ms * MILLISECOND * (index + 1) // _READS
            where = member
            if world.draw_below(_SPREAD, "crowd goes", self._number) == 0:
                other = world.draw_below(len(self._members), "crowd goes to", self._number)
                where = self._members[other]
            self._call_after(delay_ns, where, is_write=False)

    def _call_after(self, delay_ns: int, member: str, *, is_write: bool) -> None:
        self._number += 1
        self._world.at(delay_ns, partial(self._call, self._number, member, is_write=is_write))

    def _call(self, number: int, member: str, *, is_write: bool) -> None:
        if self._is_calm:
            return
        name = f"caller{number}"
        request: data_pb2.Write | coordination_pb2.Read
        if is_write:
            request = data_pb2.Write(set=data_pb2.Set(path="/r0", value=name.encode()))
        else:
            request = coordination_pb2.Read()
            request.get.path = "/r0"
        call = Call(name, 1, request, self._world.now_ns)
        self.pending_count += 1
        UnaryCall(self._world, self._notebook, call, member, within_ns=_DEADLINE_NS, ended=self._ended)

    def _ended(self) -> None:
        self.pending_count -= 1
