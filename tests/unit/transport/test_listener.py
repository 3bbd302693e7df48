"""Who dials in: peers are heard, strangers get one reason and a closed connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from coordsvc.codec.peer_messages import MalformedFrame
from coordsvc.transport.framing import with_length
from coordsvc.transport.handshake import HELLO_BYTES_MAX
from coordsvc.transport.listener import ListenError
from coordsvc.transport.settings import LinkSettings
from tests.unit.transport.peers import (
    PATIENCE_S,
    Address,
    Member,
    bound_socket,
    make_member,
    numbered,
    running,
    stranger,
)

SETTINGS = LinkSettings(frame_bytes_max=100_000, strangers_max=4, backoff_s_min=1.0)


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    """Member b, whose peer a is played by the test; nothing listens at a's address."""
    nobody = bound_socket()
    member = make_member("b", bound_socket(), {"a": nobody.getsockname()}, settings=SETTINGS)
    async with running(member):
        yield member
    nobody.close()


async def address_of(member: Member) -> Address:
    return await member.links.listen()


async def test_a_peer_is_greeted_back_and_heard(member: Member) -> None:
    async with stranger(await address_of(member)) as peer:
        answer = await peer.greet("a", to="b")
        assert (getattr(answer.hello, "from"), answer.hello.client_address) == ("b", "clients-of-b:7400")

        await peer.send(with_length(numbered(1)) + with_length(numbered(2)))
        await member.wait(lambda: len(member.numbers()) == 2)

    assert [(name, len(frames)) for name, frames in member.batches] == [("a", 2)]


@pytest.mark.parametrize(
    ("name", "to", "cluster_id", "reason"),
    [
        ("a", "b", "other", "wrong cluster: 'other' instead of 'cluster'"),
        ("x", "b", "cluster", "wrong member: 'x' is not expected"),
        ("a", "c", "cluster", "wrong address: member 'c' is meant, but this is 'b'"),
    ],
)
async def test_the_wrong_ones_are_told_why_and_closed(
    member: Member, caplog: pytest.LogCaptureFixture, name: str, to: str, cluster_id: str, reason: str
) -> None:
    async with stranger(await address_of(member)) as wrong:
        answer = await wrong.greet(name, to=to, cluster_id=cluster_id)

        assert reason in answer.refusal.reason
        assert await wrong.read_to_the_end() == b""
    assert f"a connection from 127.0.0.1 is refused: {reason}" in caplog.text


async def test_garbage_is_refused_and_a_peer_does_not_notice(
    member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(3)
    garbage = [
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff" + dice.randbytes(1000),
        (HELLO_BYTES_MAX + 1).to_bytes(4, "big"),
        with_length(numbered(1)),
        *(with_length(dice.randbytes(dice.randint(1, 400))) for _ in range(20)),
        *((5000 + number).to_bytes(4, "big") + dice.randbytes(100_000) for number in range(3)),
    ]
    address = await address_of(member)
    async with stranger(address) as peer:
        await peer.greet("a", to="b")
        for number, data in enumerate(garbage):
            async with stranger(address) as wrong:
                await wrong.send(data)
                await wrong.read_to_the_end()
            await peer.send(with_length(numbered(number)))
        await member.wait(lambda: len(member.numbers()) == len(garbage))

    refused = [message for message in caplog.messages if "refused" in message]
    assert len(refused) == 1, "one line for all of them"


async def test_who_does_not_greet_in_time_is_refused() -> None:
    settings = LinkSettings(greeting_timeout_s=0.05)
    member = make_member("b", bound_socket(), {}, settings=settings)
    async with running(member):
        address = await address_of(member)
        for beginning in (b"", b"\x00", b"\x00\x00\x00\x20abc"):
            async with stranger(address) as silent:
                await silent.send(beginning)

                assert b"no greeting within 0.05 s" in await silent.read_to_the_end()


async def test_too_many_silent_connections_are_refused_and_peers_stay(member: Member) -> None:
    address = await address_of(member)
    async with stranger(address) as peer:
        await peer.greet("a", to="b")
        silent = [await asyncio.open_connection(*address) for _ in range(SETTINGS.strangers_max)]
        async with stranger(address) as one_more:
            assert b"too many connections" in await one_more.read_to_the_end()

        await peer.send(with_length(numbered(7)))
        await member.wait(lambda: member.numbers() == [7])
        for _, writer in silent:
            writer.transport.abort()


async def test_a_newer_link_takes_the_place_of_the_older(member: Member) -> None:
    address = await address_of(member)
    async with stranger(address) as older, stranger(address) as newer:
        await older.greet("a", to="b")
        await newer.greet("a", to="b")

        assert await older.read_to_the_end() == b""
        await newer.send(with_length(numbered(2)))
        await member.wait(lambda: member.numbers() == [2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_length(b"\xff\xff\xff"), b"a frame that is not one"),
        ((100_001).to_bytes(4, "big"), b"a frame of 100001 bytes"),
        ((0).to_bytes(4, "big"), b"a frame of 0 bytes"),
    ],
)
async def test_a_peer_that_sends_garbage_is_closed_and_may_come_again(
    member: Member, data: bytes, reason: bytes
) -> None:
    address = await address_of(member)
    async with stranger(address) as peer:
        await peer.greet("a", to="b")
        await peer.send(with_length(numbered(1)))
        await member.wait(lambda: member.numbers() == [1])
        await peer.send(data)
        assert reason in await peer.read_to_the_end()

    async with stranger(address) as peer:
        await peer.greet("a", to="b")
        await peer.send(with_length(numbered(2)))
        await member.wait(lambda: member.numbers() == [1, 2])


async def test_a_frame_that_the_member_finds_malformed_closes_the_link_only(member: Member) -> None:
    def refuse(peer: str, frames: list[object]) -> None:
        raise MalformedFrame("no such thing")

    member.on_frames = refuse  # type: ignore[assignment]  # it looks at nothing
    async with stranger(await address_of(member)) as peer:
        await peer.greet("a", to="b")
        await peer.send(with_length(numbered(1)))

        assert b"no such thing" in await peer.read_to_the_end()
    assert member.task is not None
    assert not member.task.done()


async def test_a_fault_while_frames_are_taken_in_ends_the_member() -> None:
    member = make_member("b", bound_socket(), {"a": ("127.0.0.1", 9)}, settings=SETTINGS)
    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    def fail(peer: str, frames: list[object]) -> None:
        raise RuntimeError("a fault of ours")

    member.on_frames = fail  # type: ignore[assignment]  # it looks at nothing
    async with running(member), stranger(await address_of(member)) as peer:
        await peer.greet("a", to="b")
        await peer.send(with_length(numbered(1)))
        assert member.task is not None
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((member.task,))

    error = member.task.exception()
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(RuntimeError) is not None


async def test_a_taken_address_is_refused_in_one_line(member: Member) -> None:
    host, port = await address_of(member)
    taken = bound_socket()
    taken.listen()
    second = make_member("c", taken, {})
    second.links._listener._listen = (host, port)

    with pytest.raises(ListenError, match=f"cannot listen for members on .*{port}"):
        await second.links.listen()
    taken.close()
