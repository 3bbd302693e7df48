"""Unary calls of the `Cluster` service, for commands that ask members one by one and need no session.

Rule of this file: gRPC's own errors end here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from coordclient.errors import ConnectionLostError
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc

_PARALLEL_CALLS = 8
_QUICK_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.enable_http_proxy", 0))


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What one endpoint answered, or why it did not. `member`: its name, as far as others tell."""

    endpoint: str
    reply: coordination_pb2.StatusResponse | None
    problem: str = ""
    member: str = ""


def ask_status(endpoints: list[str], timeout_s: float) -> list[EndpointStatus]:
    """Ask every endpoint at the same time for its status; the answers come in the order of the endpoints."""
    with ThreadPoolExecutor(_PARALLEL_CALLS) as executor:
        return list(executor.map(lambda endpoint: _status_of(endpoint, timeout_s), endpoints))


def ask_sessions(endpoints: list[str], timeout_s: float) -> list[coordination_pb2.SessionInfo]:
    """Ask the first endpoint that answers for the sessions of the cluster.

    Raises:
        ConnectionLostError: None of them answered.
    """
    problem = ""
    for endpoint in endpoints:
        with open_channel(endpoint) as channel:
            stub = coordination_pb2_grpc.ClusterStub(channel)
            try:
                return list(stub.Sessions(coordination_pb2.SessionsRequest(), timeout=timeout_s).sessions)
            except grpc.RpcError as error:
                problem = f"{endpoint}: {_problem_of(error)}"
    raise ConnectionLostError(f"cannot list the sessions ({problem})")


def known_members(statuses: list[EndpointStatus]) -> dict[str, str]:
    """Return the client address of every member that a reply names; empty where nobody knows it."""
    known: dict[str, str] = {}
    for status in statuses:
        for member in status.reply.members if status.reply is not None else ():
            known[member.name] = known.get(member.name) or member.client_address
    return known


def _status_of(endpoint: str, timeout_s: float) -> EndpointStatus:
    with open_channel(endpoint) as channel:
        stub = coordination_pb2_grpc.ClusterStub(channel)
        try:
            return EndpointStatus(endpoint, stub.Status(coordination_pb2.StatusRequest(), timeout=timeout_s))
        except grpc.RpcError as error:
            return EndpointStatus(endpoint, None, _problem_of(error))


def open_channel(endpoint: str) -> grpc.Channel:
    return grpc.insecure_channel(endpoint, options=_QUICK_RECONNECT)


def _problem_of(error: grpc.RpcError) -> str:
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        # gRPC's own words about a failed connection are for its developers; a member's own are for people.
        details = error.details() or ""
        return "unreachable" if "failed to connect" in details.lower() or not details else details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    return f"{code.name.lower().replace('_', ' ')}: {error.details()}"
