"""R14: once a node has said what was due, nothing is due any more until it hears something.

Rule of this file: it counts what is handed out between two inputs, and changes nothing.
"""

from __future__ import annotations

from coordsvc.raft.messages import Message
from coordsvc.raft.node import RaftNode
from coordsvc.raft.ready import Persist, Ready
from coordsvc.raft.types import Index

_HAND_OUTS_MAX = 200  # between two inputs; a node that hands out entry by entry needs a few


class RestingNode(RaftNode):
    """A consensus node that must come to rest."""

    __slots__ = ("_hand_outs",)

    def tick(self) -> None:
        self._hand_outs = 0
        super().tick()

    def step(self, message: Message) -> None:
        self._hand_outs = 0
        super().step(message)

    def applied(self, index: Index) -> None:
        self._hand_outs = 0
        super().applied(index)

    def persisted(self, persist: Persist) -> None:
        self._hand_outs = 0
        super().persisted(persist)

    def ready(self) -> Ready:
        self._hand_outs = getattr(self, "_hand_outs", 0) + 1
        assert self._hand_outs <= _HAND_OUTS_MAX, f"R14: {self!r} does not come to rest without input"
        return super().ready()
