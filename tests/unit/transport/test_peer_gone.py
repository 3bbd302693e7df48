"""What is evidence that a peer's process has ended, and what is not."""

from __future__ import annotations

import asyncio

import pytest

from coordsvc.transport.settings import LinkSettings
from tests.unit.transport.peers import (
    PATIENCE_S,
    Member,
    bound_socket,
    complaints_of,
    dialling,
    make_member,
    running,
    stranger,
)

RELUCTANT = LinkSettings(backoff_s_min=3600.0, backoff_s_max=3600.0)  # it dials once


def closings_of(member: Member) -> list[str]:
    """Return a list, filled from now on, of the peers whose own link was closed by their host."""
    listener = member.links._listener
    closed: list[str] = []
    tell = listener._on_closed

    def note(peer: str) -> None:
        closed.append(peer)
        tell(peer)
        member.event.set()

    listener._on_closed = note
    return closed


async def test_a_link_that_closes_while_the_peers_own_link_stands_is_none() -> None:
    async with dialling(RELUCTANT) as (member, peer), stranger(await member.links.listen()) as incoming:
        link = await peer.next_link()
        await member.wait_up()
        await incoming.greet("b", "a")

        link.writer.transport.abort()
        await member.wait(lambda: member.downs == ["b"])
        assert member.gone == []

        incoming.writer.transport.abort()
        await member.wait(lambda: member.gone == ["b"])


async def test_the_peers_own_link_that_closes_while_ours_stands_is_none() -> None:
    async with dialling(RELUCTANT) as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        closed = closings_of(member)
        async with stranger(await member.links.listen()) as incoming:
            await incoming.greet("b", "a")
            incoming.writer.transport.abort()
            await member.wait(lambda: closed == ["b"])
        assert (member.downs, member.gone) == ([], [])

        link.writer.transport.abort()
        await member.wait(lambda: member.gone == ["b"])


async def test_a_newer_connection_that_takes_the_place_of_the_peers_link_is_none() -> None:
    async with dialling(RELUCTANT) as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        address = await member.links.listen()
        async with stranger(address) as first, stranger(address) as second:
            await first.greet("b", "a")
            await second.greet("b", "a")
            await first.read_to_the_end()
            link.writer.transport.abort()
            await member.wait(lambda: member.downs == ["b"])
            assert member.gone == []


async def test_a_peer_that_is_taken_away_is_not_gone() -> None:
    """We close its links ourselves, both of them."""
    async with dialling() as (member, peer), stranger(await member.links.listen()) as incoming:
        link = await peer.next_link()
        await member.wait_up()
        await incoming.greet("b", "a")

        member.links.set_members({})

        await incoming.read_to_the_end()
        await link.read_to_the_end()
        assert (member.downs, member.gone) == (["b"], [])


async def test_a_host_that_refuses_the_connection_says_so() -> None:
    """The process ended while the network was down, or before we came."""
    with bound_socket() as nobody:
        member = make_member("a", bound_socket(), {"b": nobody.getsockname()})
        async with running(member):
            await member.wait(lambda: "b" in member.gone)


async def test_a_refused_connection_is_none_while_the_peers_own_link_stands() -> None:
    with bound_socket() as nobody:
        member = make_member("a", bound_socket(), {"b": nobody.getsockname()})
        complaints = complaints_of(member)
        async with running(member), stranger(await member.links.listen()) as incoming:
            await incoming.greet("b", "a")
            member.gone.clear()
            complaints.clear()

            await member.wait(lambda: any("cannot reach" in text for text in complaints))

            assert member.gone == []


@pytest.mark.parametrize("last", ["theirs", "ours"])
async def test_a_fault_while_it_is_told_ends_the_member(last: str) -> None:
    """The event loop alone would log it and go on, with a member that has stopped half way."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)

    def fail(peer: str) -> None:
        raise RuntimeError("a fault of ours")

    async with dialling(RELUCTANT) as (member, peer), stranger(await member.links.listen()) as incoming:
        member.links._on_peer_gone = fail
        closed = closings_of(member)
        link = await peer.next_link()
        await member.wait_up()
        await incoming.greet("b", "a")
        if last == "theirs":
            link.writer.transport.abort()
            await member.wait(lambda: member.downs == ["b"])
            incoming.writer.transport.abort()
        else:
            incoming.writer.transport.abort()
            await member.wait(lambda: closed == ["b"])
            link.writer.transport.abort()
        assert member.task is not None
        await asyncio.wait((member.task,), timeout=PATIENCE_S)

        assert member.task.done()
        error = member.task.exception()
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(RuntimeError) is not None
