"""Calls that only the leader can answer: finding it, asking it, and asking its successor.

Rule of this file: what certainly did not happen is asked again until the time is up; what may have
happened is told as OutcomeUnknownError and never repeated blindly. gRPC's own errors end here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from coordclient import clock
from coordclient.cli.command import Settings
from coordclient.cli.service_calls import EndpointStatus, ask_status, known_members, open_channel
from coordclient.errors import (
    Code,
    ConnectionLostError,
    CoordError,
    OutcomeUnknownError,
    RequestError,
    RequestTimeoutError,
)
from coordclient.statuses import error_from_status, typed_detail
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc

Members = coordination_pb2.MembersResponse
_T = TypeVar("_T")

_LOOK_TIMEOUT_S: Final = 1.0
_CALL_TIMEOUT_S_MIN: Final = 0.5
_PAUSE_S: Final = 0.2
_ELSEWHERE: Final = (Code.NO_LEADER, Code.SHUTTING_DOWN)
_NO_ANSWER: Final = (Code.UNKNOWN_OUTCOME, Code.REQUEST_TIMEOUT)
_UNSENT: Final = "failed to connect"  # how gRPC says that a request did not leave


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, and where clients reach it."""

    name: str
    endpoint: str
    term: int


class LeaderCalls:
    """The leader of the cluster at some endpoints, whoever that is at the moment, until the time is up."""

    def __init__(self, settings: Settings) -> None:
        self.timeout_s = settings.timeout_s
        self._deadline = clock.now() + settings.timeout_s
        self._endpoints = list(dict.fromkeys(settings.endpoints.split(",")))
        self._leader: Leader | None = None
        self._problem = ""

    @property
    def left_s(self) -> float:
        return self._deadline - clock.now()

    @property
    def is_over(self) -> bool:
        return self.left_s <= _PAUSE_S

    @property
    def client_addresses(self) -> list[str]:
        """Return where members were seen to answer, or are said to."""
        return list(self._endpoints)

    def pause(self) -> None:
        """Let the cluster get on."""
        time.sleep(min(_PAUSE_S * random.uniform(0.5, 1.0), max(0.0, self.left_s)))

    def leader(self) -> Leader:
        """Find the leader.

        Raises:
            ConnectionLostError: There was none in time, or nobody knows where clients reach it.
        """
        while self._leader is None:
            self._leader = self._look_for_leader()
            if self._leader is None:
                if self.is_over:
                    raise ConnectionLostError(
                        f"no leader was found within {self.timeout_s:g} s{self._because}"
                    )
                self.pause()
        return self._leader

    def look_again(self) -> None:
        """Forget who leads: that has changed, or may have."""
        self._leader = None

    def members(self) -> Members:
        """Ask for the members and how far they are; again and again, at whoever leads.

        Raises:
            ConnectionLostError: There was no leader in time.
            CoordError: What it refused the question with.
        """
        while True:
            try:
                return self.ask(
                    lambda stub, timeout_s: stub.Members(coordination_pb2.MembersRequest(), timeout=timeout_s)
                )
            except ConnectionLostError as failure:
                if self.is_over:
                    raise
                self._problem = str(failure)
                self.pause()

    def ask(
        self, call: Callable[[coordination_pb2_grpc.ClusterStub, float], _T], *, changes: bool = False
    ) -> _T:
        """Make a call to the leader, once; the time that is left goes with it.

        Args:
            changes: Whether the call changes anything.

        Raises:
            ConnectionLostError: There is no leader, or it leads no more, or is gone; nothing was changed.
            OutcomeUnknownError: The call `changes` something, and may or may not have been carried out.
            RequestTimeoutError: There was no answer in time; nothing was changed.
            CoordError: What the leader refused the call with.
        """
        leader = self.leader()
        timeout_s = max(self.left_s, _CALL_TIMEOUT_S_MIN)
        with open_channel(leader.endpoint) as channel:
            try:
                return call(coordination_pb2_grpc.ClusterStub(channel), timeout_s)
            except grpc.RpcError as error:
                failure = _failure(error, leader, changes=changes)
        self.look_again()
        raise failure

    @property
    def _because(self) -> str:
        return f" ({self._problem})" if self._problem else ""

    def _look_for_leader(self) -> Leader | None:
        timeout_s = min(_LOOK_TIMEOUT_S, max(self.left_s, _CALL_TIMEOUT_S_MIN))
        statuses = ask_status(self._endpoints, timeout_s)
        addresses = known_members(statuses)
        others = [address for address in addresses.values() if address and address not in self._endpoints]
        # The addresses that were given may all be out of date by the time that a leader is needed again.
        self._endpoints += others
        statuses += ask_status(others, timeout_s)
        names = {status.reply.leader for status in statuses if status.reply is not None} - {""}
        leader = _leader_among(statuses, addresses)
        if leader is None and names:
            self._problem = f"{' or '.join(sorted(names))} leads, but nobody knows where clients reach it"
        return leader


def _leader_among(statuses: list[EndpointStatus], addresses: dict[str, str]) -> Leader | None:
    """Return the leader of the highest term: one that was cut off may not know of its successor."""
    found = [
        (status.endpoint, status.reply)
        for status in statuses
        if status.reply is not None and status.reply.leader
    ]
    if not found:
        return None
    newest = max(reply.term for _, reply in found)
    replies = [(endpoint, reply) for endpoint, reply in found if reply.term == newest]
    for endpoint, reply in replies:
        if reply.member == reply.leader:
            return Leader(
                reply.member, endpoint, newest
            )  # what answers is better than what it says of itself
    name = replies[0][1].leader
    endpoint = addresses.get(name, "")
    return Leader(name, endpoint, newest) if endpoint else None


def _failure(error: grpc.RpcError, leader: Leader, *, changes: bool) -> CoordError:
    """Translate what ended a call; a ConnectionLostError may be tried again, at whoever leads then."""
    detail = typed_detail(error)
    failure = error_from_status(error, leader.endpoint)
    if detail is not None and detail.code in _ELSEWHERE:
        return ConnectionLostError(detail.message)
    if detail is not None and detail.code not in _NO_ANSWER:
        # A fact about the cluster; the codes of operations on nodes mean something else to a script.
        return RequestError(detail.message, code=detail.code)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return RequestError(
            f"member {leader.name} is of a version that does not know this request: upgrade it"
        )
    was_sent = _UNSENT not in (error.details() or "").lower()
    if changes and was_sent:
        return OutcomeUnknownError(f"{leader.name} did not confirm the change: it may or may not come about")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RequestTimeoutError(f"{leader.name}, the leader, did not answer in time")
    return ConnectionLostError(str(failure))
