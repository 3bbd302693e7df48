"""The limits and times of links. All in bytes and seconds.

Rule of this file: defaults that need no tuning between 2 and 9 members.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """`queue_bytes_max` is for each peer, and includes what the socket has not taken yet."""

    frame_bytes_max: int = 64 << 20
    queue_bytes_max: int = 128 << 20
    write_bytes_high: int = 1 << 20  # beyond this the rest waits in the queue, where it is counted
    greeting_timeout_s: float = 5.0
    strangers_max: int = 64  # incoming connections that have not greeted yet
    stall_timeout_s: float = 10.0  # a link that takes nothing for so long is closed
    backoff_s_min: float = 0.05
    backoff_s_max: float = 2.0
    link_proven_s: float = 5.0  # a link that lived so long is dialled again at once when it breaks
