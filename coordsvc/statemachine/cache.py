"""Decoded znodes that were used lately, within a budget of bytes.

Rule of this file: it holds only what is committed in the store, so losing an entry never matters.
Two generations stand in for an LRU list: a hit costs one dictionary look-up and moves nothing.
"""

from __future__ import annotations

from coordsvc.statemachine.znodes import Znode

_ENTRY_BYTES = 700  # a Znode, its Stat and eleven numbers, and its places in the dictionary


class ZnodeCache:
    """Path to znode. When the young generation is full it becomes the old one, and the old one goes."""

    __slots__ = ("_budget", "_old", "_room", "_young")

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes // 2  # the old generation may be as large as the young one
        self._room = self._budget
        self._young: dict[str, Znode] = {}
        self._old: dict[str, Znode] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, path: str) -> Znode | None:
        node = self._young.get(path)
        if node is not None:
            return node
        node = self._old.pop(path, None)
        if node is not None:
            self.put(path, node)
        return node

    def put(self, path: str, node: Znode) -> None:
        previous = self._young.get(path)
        self._young[path] = node
        if previous is not None:
            self._room += len(previous.value) - len(node.value)
        else:
            self._room -= len(node.value) + len(path) + _ENTRY_BYTES
        if self._room < 0:
            self._old = self._young
            self._young = {}
            self._room = self._budget

    def drop(self, path: str) -> None:
        node = self._young.pop(path, None)
        if node is not None:
            self._room += len(node.value) + len(path) + _ENTRY_BYTES
        self._old.pop(path, None)
