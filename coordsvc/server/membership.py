"""The shell's side of the membership: who may be linked to us, and callers that wait for changes.

Rule of this file: it translates and waits; every decision is the replica's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordsvc.api.gateway import ChangeRefusedError
from coordsvc.replica.changes import Change, ChangeRequest
from coordsvc.statemachine.results import ErrorCode, Failure
from coordsvc.transport.handshake import Greeted, Unwelcome

if TYPE_CHECKING:
    from coordsvc.server.member import Member


class MembershipDesk:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._waiting: dict[int, asyncio.Future[None]] = {}

    # --- links ---

    def admit(self, greeted: Greeted) -> Unwelcome | None:
        """Say whether a peer may be linked to us, and remember what it said of itself."""
        member = self._member
        refused = member.replica.check_greeting(greeted.name, greeted.member_id, greeted.configuration_index)
        if refused is not None:
            return Unwelcome(refused.reason, refused.cause, refused.configuration_index)
        member.feed(
            member.replica.peer_greeted,
            greeted.name,
            greeted.member_id,
            greeted.peer_address,
            greeted.client_address,
            greeted.configuration_index,
        )
        return None

    def refused(self, _peer: str, cause: int, configuration_index: int) -> None:
        """A peer does not let us in."""
        self._member.feed(self._member.replica.peer_refused, cause, configuration_index)

    # --- changes ---

    async def change(self, change: Change, *, force: bool, within_s: float) -> ChangeRequest:
        """Carry out a change; return the request, with the configuration in which it is complete.

        Raises:
            ChangeRefusedError: It was not made, or it is not known whether it was.
        """
        replica = self._member.replica
        request = self._member.feed(replica.change_membership, change, force=force)
        if not request.is_settled:
            await self._wait(request, within_s)
        if request.failure is not None:
            raise ChangeRefusedError(request.failure, request.leader_hint)
        assert request.outcome is not None, "a settled request failed, or has an outcome"
        return request

    async def _wait(self, request: ChangeRequest, within_s: float) -> None:
        waiting = self._waiting[request.number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                await waiting
        except TimeoutError:
            raise ChangeRefusedError(_too_late(request)) from None
        finally:
            del self._waiting[request.number]
            self._member.feed(self._member.replica.forget_change, request)

    def settled(self, request: ChangeRequest) -> None:
        """A change has come to its end."""
        waiting = self._waiting.get(request.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _too_late(request: ChangeRequest) -> Failure:
    if request.proposed:
        message = "no answer in time: the change goes on if a majority can be reached; look at the members"
        return Failure(ErrorCode.UNKNOWN_OUTCOME, message)
    return Failure(ErrorCode.REQUEST_TIMEOUT, "no answer in time; nothing was changed")
