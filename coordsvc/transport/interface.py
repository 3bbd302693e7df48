"""What the server sees of the links between members. Twins for tests and the simulator have this shape.

Rule of this file: sending is fire and forget. A frame may be lost with its link; frames of one sender to
one receiver never overtake one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from coordproto.v1 import peer_pb2

OnFrames = Callable[[str, list[peer_pb2.PeerFrame]], None]
"""(peer, all frames that one read brought, in order). May raise `MalformedFrame` (of the codec):
the peer's link is then closed. Any other exception ends `run`."""

OnLinkUp = Callable[[str, str], None]
"""(peer, where clients reach it): frames can be sent to it now."""

OnLinkDown = Callable[[str], None]
"""(peer): what was sent lately may be lost."""

OnPeerGone = Callable[[str], None]
"""(peer): its process seems to have ended. Its host has closed or reset the last connection between us, in
either direction, or refuses a new one while there is none. A link that we closed ourselves, one that the
network lost, and one beside which another stands say nothing of the kind. Evidence, no proof: whatever stands
between the two hosts can close connections too. May be said several times."""

OnRefused = Callable[[str, int, int], None]
"""(peer, cause, configuration_index): the peer does not let us in; see `peer_pb2.Refusal`."""


class PeerTransport(Protocol):
    """Links to all other members."""

    async def run(self) -> None:
        """Listen and dial until cancelled."""

    def send(self, peer: str, frames: bytes | Sequence[bytes]) -> bool:
        """Queue one encoded PeerFrame or several. Never blocks, never raises.

        Returns:
            False if any was dropped: the link is down, one is too large (then none is queued), or the queue
            is full; then the first ones are queued, as many as it holds.
        """

    def set_members(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        """Keep links to these, at these addresses, and to nobody else. May be called at any time."""

    def queued_bytes(self, peer: str) -> int:
        """Return how many bytes wait to be taken by the network."""

    def is_up(self, peer: str) -> bool:
        """Return whether frames can be sent to `peer` now."""
