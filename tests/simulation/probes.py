"""Rare situations that a campaign must have been in at least once, or it proves little.

Rule of this file: names and counts only. `ALL` is the list; a probe that is not in it is an error.
"""

from __future__ import annotations

ALL = (
    "a leader crashed between append and commit",
    "a member crashed with unsynced writes",
    "a member crashed after it had voted",
    "a crash lost writes to the log",
    "a crash took back applied entries",
    "a crash came between the switch of the tree and the reset of the log",
    "a member stopped because of its disk",
    "a divergent tail was truncated",
    "a snapshot was installed",
    "a snapshot was installed on a member with clients",
    "a snapshot was not wanted any more",
    "a snapshot stream failed",
    "a candidate lost an election",
    "a follower heard that the leader's process has ended",
    "a follower heard so of a leader that lived",
    "a leader stepped down",
    "leadership was handed over",
    "a disk stall moved leadership",
    "a leader noticed that it was asleep",
    "the leader changed while reads waited for its word",
    "the log was trimmed",
    "an apply slice ended early",
    "a repeated write got its first answer",
    "a write came out of sequence",
    "a write came from a session that had ended",
    "a transaction was rolled back",
    "a session expired",
    "a session was closed",
    "a session moved to another connection",
    "a node was reaped",
    "an ephemeral node left a grave",
    "the history was trimmed",
    "a watch was replayed",
    "a watch was told that its history is gone",
    "a configuration was joint",
    "a configuration was rolled back",
    "a learner was promoted",
    "a member was added",
    "a member was removed",
    "a leader was not in its configuration",
    "a leader that is to go handed over first",
    "a leader crashed while the configuration was joint",
    "a member stopped because it was removed",
    "a member with an empty disk and an old name was turned away",
    "a name was used again for an empty disk",
    "a quorum was gone for a while",
    "a history was searched without zxids",
)


class Probes:
    """How often each situation occurred."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(ALL, 0)

    def hit(self, name: str) -> None:
        self.counts[name] += 1

    def add(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            self.counts[name] += count

    def never_hit(self) -> list[str]:
        return [name for name, count in self.counts.items() if not count]
