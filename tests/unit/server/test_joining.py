"""A server asks a cluster to take it in: whom it asks, what it believes, when it gives up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from coordproto.v1 import coordination_pb2, data_pb2
from coordsvc.api.status import abort
from coordsvc.config import ServerConfig
from coordsvc.server import joining
from coordsvc.server.joining import JoinFailedError, join
from coordsvc.storage.data_directory import StoredIdentity

Answer = coordination_pb2.JoinResponse | data_pb2.Error


def taken_in(name: str = "d", index: int = 12, term: int = 3) -> coordination_pb2.JoinResponse:
    members = [
        coordination_pb2.JoinedMember(name="a", peer_address="h:1"),
        coordination_pb2.JoinedMember(name=name, peer_address="h:4"),
    ]
    return coordination_pb2.JoinResponse(
        cluster_id="cluster", name=name, members=members, configuration_index=index, configuration_term=term
    )


def refused(code: data_pb2.ErrorCode.ValueType, message: str, hint: str = "") -> data_pb2.Error:
    return data_pb2.Error(code=code, message=message, leader_hint=hint)


class FakeMember:
    """Answers each request with the next of `answers`, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[coordination_pb2.JoinRequest] = []

    async def join(
        self, request: coordination_pb2.JoinRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> coordination_pb2.JoinResponse:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, data_pb2.Error):
            await abort(context, answer)
            raise AssertionError("an aborted call does not come here")
        return answer


@asynccontextmanager
async def serving(member: FakeMember) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[coordination_pb2.JoinRequest, coordination_pb2.JoinResponse]
    handler = grpc.unary_unary_rpc_method_handler(
        member.join,
        request_deserializer=coordination_pb2.JoinRequest.FromString,
        response_serializer=coordination_pb2.JoinResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler("coordproto.v1.Cluster", {"Join": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ServerConfig]:
    def make(*endpoints: str, name: str = "") -> ServerConfig:
        return ServerConfig(name=name, data_dir=tmp_path / "data", join=",".join(endpoints))

    return make


async def test_it_becomes_who_the_cluster_says_it_is(config: Callable[..., ServerConfig]) -> None:
    member = FakeMember(taken_in("coordsvc-4"))
    async with serving(member) as endpoint:
        identity = await join(config(endpoint))
    (asked,) = member.asked
    assert identity == StoredIdentity("cluster", "coordsvc-4", asked.member_id, "a=h:1", 12, 3)
    assert (asked.name, asked.peer_address, asked.client_address) == ("", "127.0.0.1:7401", "127.0.0.1:7400")


async def test_it_follows_to_the_leader_and_asks_under_the_same_id(
    config: Callable[..., ServerConfig],
) -> None:
    leader = FakeMember(refused(data_pb2.LIMIT_EXCEEDED, "another change is under way"), taken_in())
    async with serving(leader) as leading:
        follower = FakeMember(refused(data_pb2.NO_LEADER, "b does not lead", leading))
        async with serving(follower) as following:
            assert (await join(config(following, name="d"))).member == "d"
    asked = follower.asked + leader.asked
    assert len(asked) >= 3
    assert len({request.member_id for request in asked}) == 1


async def test_it_tries_the_next_if_one_is_down(config: Callable[..., ServerConfig]) -> None:
    async with serving(FakeMember(taken_in())) as endpoint:
        assert (await join(config("127.0.0.1:1", endpoint))).member == "d"


async def test_a_refusal_for_good_is_the_end(config: Callable[..., ServerConfig]) -> None:
    member = FakeMember(refused(data_pb2.NODE_EXISTS, "a member named d exists already"))
    async with serving(member) as endpoint:
        with pytest.raises(JoinFailedError, match="refused this server: a member named d exists already"):
            await join(config(endpoint))
    assert len(member.asked) == 1


async def test_it_gives_up_and_says_what_it_heard_last(
    config: Callable[..., ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ASK_FOR_S", 0.2)
    async with serving(FakeMember(refused(data_pb2.NO_LEADER, "nobody leads"))) as endpoint:
        with pytest.raises(JoinFailedError, match=f"the last answer was from {endpoint}: nobody leads"):
            await join(config(endpoint))


async def test_places_that_were_recorded_by_mistake_do_not_keep_it_out(
    config: Callable[..., ServerConfig],
) -> None:
    answer = taken_in()
    mistakes = {"b": "h:1", "c": "10.0.0..4:7401", "e": "[,=]:1", "f": "h:6"}
    for name, address in mistakes.items():
        answer.members.add(name=name, peer_address=address)
    async with serving(FakeMember(answer)) as endpoint:
        assert (await join(config(endpoint))).members == "a=h:1,f=h:6"


@pytest.mark.parametrize(
    "answer", [taken_in(""), taken_in(index=0), taken_in(term=0), coordination_pb2.JoinResponse()]
)
async def test_an_answer_that_cannot_be_is_not_believed(
    config: Callable[..., ServerConfig], answer: coordination_pb2.JoinResponse
) -> None:
    async with serving(FakeMember(answer)) as endpoint:
        with pytest.raises(JoinFailedError, match="what cannot be"):
            await join(config(endpoint))
