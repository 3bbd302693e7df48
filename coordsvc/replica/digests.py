"""Members compare what they hold; the odd one out stops itself. Promise G9, invariant G9 of the cluster.

Rule of this file: a member judges only itself, and only against a majority that agrees without it.
"""

from __future__ import annotations

from collections import OrderedDict

from coordsvc.raft.types import Index, NodeId

_KEPT = 64


class DigestBoard:
    """Digests by index: our own and what the others reported."""

    def __init__(self, member: NodeId) -> None:
        self._member = member
        self._by_index: OrderedDict[Index, dict[NodeId, int]] = OrderedDict()

    def report(self, member: NodeId, index: Index, digest: int) -> None:
        reports = self._by_index.setdefault(index, {})
        reports[member] = digest
        while len(self._by_index) > _KEPT:
            self._by_index.popitem(last=False)

    def verdict(self, index: Index, voters: tuple[NodeId, ...]) -> str:
        """Return why we must stop, or the empty string.

        We are the odd one if a majority of the voters agree on a digest at `index` that is not ours.
        """
        reports = self._by_index.get(index, {})
        ours = reports.get(self._member)
        if ours is None:
            return ""
        counts: dict[int, int] = {}
        for member in voters:
            if member in reports:
                counts[reports[member]] = counts.get(reports[member], 0) + 1
        for digest, count in counts.items():
            if digest != ours and count > len(voters) // 2:
                return (
                    f"the tree of this member differs from that of a majority at index {index} "
                    f"(digest {ours:016x} here, {digest:016x} there): "
                    "remove its data directory and replace the member"
                )
        return ""
