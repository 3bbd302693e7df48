"""A server that becomes a learner: it asks the members of a running cluster, and is told who they are.

The id under which it asks is on its disk before it asks, so however often it has to start over (it crashes,
no leader is there, an answer gets lost) the cluster sees one and the same server.

Rule of this file: it asks until it is answered or the time is up; it writes nothing but that id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import grpc
import grpc.aio

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2
from coordsvc.api.status import error_of
from coordsvc.config import ConfigError, ServerConfig, parse_members
from coordsvc.server.logs import log
from coordsvc.storage.data_directory import StoredIdentity, prepare_to_join

ASK_FOR_S = 30.0
_CALL_WITHIN_S = 5.0
_PAUSE_S = 0.3
_FINAL = (data_pb2.INVALID_ARGUMENT, data_pb2.NODE_EXISTS, data_pb2.MALFORMED)


class JoinFailedError(Exception):
    """The cluster did not take this server in; the message is one line for people."""


async def join(config: ServerConfig) -> StoredIdentity:
    """Become a learner of the cluster that `config.join` names.

    Raises:
        JoinFailedError: It refused, or nobody could answer in time.
        StorageError: The data directory cannot be used.
    """
    member_id = prepare_to_join(config.data_dir)
    request = coordination_pb2.JoinRequest(
        name=config.name,
        peer_address=config.advertise_peer,
        client_address=config.advertise_client,
        member_id=member_id,
    )
    answer = await _ask(request, config.join.split(","))
    log(logging.INFO, "joined", cluster=answer.cluster_id, name=answer.name)
    return _identity(answer, member_id)


def _identity(answer: coordination_pb2.JoinResponse, member_id: int) -> StoredIdentity:
    members = _contacts(answer)
    if not members:
        raise JoinFailedError("the cluster answered what cannot be: nobody in it can be dialled")
    if not answer.cluster_id or not answer.name or answer.configuration_index < 1:
        raise JoinFailedError("the cluster answered what cannot be: who we are in it")
    if answer.configuration_term < 1:
        raise JoinFailedError("the cluster answered what cannot be: in which term it took us in")
    return StoredIdentity(
        answer.cluster_id,
        answer.name,
        member_id,
        members,
        answer.configuration_index,
        answer.configuration_term,
    )


def _contacts(answer: coordination_pb2.JoinResponse) -> str:
    """Whom this server can talk to first, NAME=HOST:PORT,...

    One of them is enough: it tells of the others. A place that is no use, or is said to be that of two, was
    recorded by mistake, and does not keep anybody out.
    """
    by_address: dict[str, str] = {}
    for member in answer.members:
        entry = f"{member.name}={member.peer_address}"
        if member.name != answer.name and _is_sound(entry):
            by_address.setdefault(member.peer_address, entry)
    return ",".join(by_address.values())


def _is_sound(entry: str) -> bool:
    try:
        return "," not in entry and bool(parse_members(entry))
    except ConfigError:
        return False


async def _ask(request: coordination_pb2.JoinRequest, endpoints: list[str]) -> coordination_pb2.JoinResponse:
    """Ask one member after the other, and whoever they say leads."""
    give_up_s = time.monotonic() + ASK_FOR_S
    round_robin = _forever(endpoints)
    endpoint, problem = next(round_robin), ""
    while time.monotonic() < give_up_s:
        try:
            return await _call(request, endpoint)
        except grpc.aio.AioRpcError as failed:
            error = error_of(failed)
            said = error.message if error is not None else (failed.details() or failed.code().name)
            if error is not None and error.code in _FINAL:
                raise JoinFailedError(f"the cluster refused this server: {error.message}") from failed
        if f"{endpoint}: {said}" != problem:
            problem = f"{endpoint}: {said}"
            log(logging.WARNING, "not_joined_yet", asked=endpoint, reason=said)
        hint = error.leader_hint if error is not None else ""
        if not hint or hint == endpoint:
            await asyncio.sleep(_PAUSE_S)
        endpoint = hint if hint and hint != endpoint else next(round_robin)
    raise JoinFailedError(
        f"no cluster took this server in within {ASK_FOR_S:.0f} s; the last answer was from {problem}"
    )


async def _call(request: coordination_pb2.JoinRequest, endpoint: str) -> coordination_pb2.JoinResponse:
    async with grpc.aio.insecure_channel(endpoint) as channel:
        stub: coordination_pb2_grpc.ClusterAsyncStub = coordination_pb2_grpc.ClusterStub(channel)
        return await stub.Join(request, timeout=_CALL_WITHIN_S)


def _forever(endpoints: list[str]) -> Iterator[str]:
    while True:
        yield from endpoints
