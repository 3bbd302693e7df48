"""One call without a session: what a caller is told about a write that has no ordinary end (promise C3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from coordproto.v1 import data_pb2
from coordsvc.api.calls import Call
from coordsvc.codec.results import write_item
from coordsvc.config import ServerConfig
from coordsvc.server.member import Member
from coordsvc.server.opening import open_member
from coordsvc.statemachine.results import Deleted, ErrorCode


class AbortedError(Exception):
    """The call has ended with a status."""


class CallContext:
    """The part of a gRPC context that a call uses."""

    def __init__(self, remaining_s: float) -> None:
        self.error = data_pb2.Error()
        self._remaining_s = remaining_s

    def time_remaining(self) -> float:
        return self._remaining_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, bytes], ...]) -> None:
        status_pb2.Status.FromString(metadata[0][1]).details[0].Unpack(self.error)

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        raise AbortedError(code, message)


@pytest.fixture
async def member(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Member]:
    """A member that runs, and leads nobody but itself."""
    config = ServerConfig(data_dir=tmp_path / "data", peer_listen=f"127.0.0.1:{unused_tcp_port}")
    member = Member(config, open_member(config))
    running = asyncio.create_task(member.run())
    yield member
    running.cancel()
    await asyncio.wait([running])
    await member.close()


async def write(
    member: Member, context: CallContext, happens: Callable[[Call], None]
) -> data_pb2.WriteResult:
    """Wait for a write as long as the caller allows; `happens` while it waits."""
    async with Call(member, cast("grpc.aio.ServicerContext[Any, Any]", context)) as call:
        encoded = data_pb2.WriteBatch(writes=[data_pb2.Write()]).SerializeToString()
        call.feed(member.replica.anonymous_write, call.handle.connection, encoded)
        asyncio.get_running_loop().call_soon(happens, call)
        return await call.write_result()
    raise AssertionError("an aborted call does not come here")


async def test_an_answer_that_comes_together_with_the_deadline_is_told(member: Member) -> None:
    """It was applied: the caller must not hear that the write may be repeated."""

    def applied(call: Call) -> None:
        member.replica._proposals.done(call.handle.connection.number)
        call.handle.connection.push(write_item(0, 7, Deleted(1)))
        call.handle.wake()

    result = await write(member, CallContext(remaining_s=0), applied)

    assert result.zxid == 7


@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_write_on_its_way_whose_call_is_ended_has_an_unknown_outcome(
    member: Member, monkeypatch: pytest.MonkeyPatch, *, was_sent: bool
) -> None:
    context = CallContext(remaining_s=60)
    monkeypatch.setattr(member.replica, "was_sent", lambda _connection: was_sent)

    def ended(call: Call) -> None:
        member.replica.state.fail_connection(
            call.handle.connection, ErrorCode.SHUTTING_DOWN, "this member has stopped"
        )
        call.handle.wake()

    with pytest.raises(AbortedError, match="this member has stopped"):
        await write(member, context, ended)

    assert context.error.code == (data_pb2.UNKNOWN_OUTCOME if was_sent else data_pb2.SHUTTING_DOWN)
