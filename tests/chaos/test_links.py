"""The gates themselves: what they let through, what they hold, and whom they tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coordproto.v1 import peer_pb2
from tests.chaos.links import Gate, Link, greeted_from
from tests.processes.conditions import eventually
from tests.processes.ports import HOST, free_ports

BOUND_S = 10.0


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()

    async def seen(self) -> bytes:
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.received += data
                writer.write(data)
        except ConnectionResetError:
            return
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def gated_echo() -> AsyncIterator[tuple[Link, Echo, Gate]]:
    echo = Echo()
    target, port = free_ports(2)
    link = Link("x", "y")
    server = await asyncio.start_server(echo.serve, HOST, target)
    async with asyncio.timeout(BOUND_S), server, Gate(f"{HOST}:{target}", port, lambda _: link) as gate:
        yield link, echo, gate


@asynccontextmanager
async def connected(gate: Gate) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, int(gate.address.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_bytes_pass_in_order_however_they_are_sliced_and_delayed() -> None:
    async with gated_echo() as (link, _, gate), connected(gate) as (reader, writer):
        sent = bytes(range(256)) * 20
        link.slice(100, 0.0001)
        link.delay(0.02)
        writer.write(sent[:3000])
        await writer.drain()
        link.heal()
        writer.write(sent[3000:])

        assert await reader.readexactly(len(sent)) == sent


async def test_what_is_held_comes_out_when_the_link_heals() -> None:
    async with gated_echo() as (link, echo, gate), connected(gate) as (reader, writer):
        writer.write(b"before")
        await reader.readexactly(6)
        link.hold(backward=False)
        writer.write(b"held")
        async with connected(gate) as (other_reader, other_writer):
            other_writer.write(b"held too")
            assert echo.received == b"before"
            link.heal()

            assert await reader.readexactly(4) == b"held"
            assert await other_reader.readexactly(8) == b"held too"


async def test_one_way_only() -> None:
    async with gated_echo() as (link, echo, gate), connected(gate) as (reader, writer):
        writer.write(b"a")
        await reader.readexactly(1)
        link.hold(forward=False)
        writer.write(b"bc")
        await eventually("they arrive", echo.seen, until=lambda received: received == b"abc")
        link.heal()
        assert await reader.readexactly(2) == b"bc"


async def test_a_refused_link_resets_what_is_there_and_what_comes() -> None:
    async with gated_echo() as (link, _, gate), connected(gate) as (reader, writer):
        writer.write(b"a")
        await reader.readexactly(1)
        link.refuse()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        async with connected(gate) as (new_reader, _):
            with pytest.raises(ConnectionResetError):
                await new_reader.read(1)
        link.heal()
        async with connected(gate) as (healed_reader, healed_writer):
            healed_writer.write(b"z")
            assert await healed_reader.readexactly(1) == b"z"


async def test_a_connection_breaks_in_the_middle_of_a_message() -> None:
    async with gated_echo() as (link, echo, gate), connected(gate) as (reader, writer):
        writer.write(b"a")
        await reader.readexactly(1)
        link.break_after(4)
        writer.write(b"0123456789")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(10)
        await echo.ended.wait()
        assert b"a0123456789".startswith(echo.received)
        assert len(echo.received) <= 5


async def test_the_dialler_is_reset_and_the_member_hears_nothing_of_it() -> None:
    async with gated_echo() as (link, echo, gate), connected(gate) as (reader, writer):
        writer.write(b"a")
        await reader.readexactly(1)
        link.half_open()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert not echo.ended.is_set()
        assert len(link.connections) == 1
        link.heal()
        await echo.ended.wait()


async def test_an_end_comes_after_what_was_sent_before_it() -> None:
    async with gated_echo() as (link, echo, gate):
        async with connected(gate) as (_, writer):
            link.delay(0.05)
            writer.write(b"last words")
            await writer.drain()
        await echo.ended.wait()
        assert echo.received == b"last words"


def test_a_greeting_tells_who_dialled() -> None:
    hello = peer_pb2.Hello(protocol=1, to="b")
    setattr(hello, "from", "a")
    frame = peer_pb2.PeerFrame(hello=hello).SerializeToString()
    greeting = len(frame).to_bytes(4, "big") + frame

    assert [greeted_from(greeting[:end]) for end in (0, 3, len(greeting) - 1)] == [None, None, None]
    assert greeted_from(greeting + b"more") == "a"
    assert greeted_from(b"GET / HTTP/1.1\r\n") == "?"
