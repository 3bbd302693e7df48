"""The sending half: batches, limits, and dialling again."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from coordsvc.transport.framing import with_length
from coordsvc.transport.handshake import Unwelcome, refusal
from coordsvc.transport.settings import LinkSettings
from tests.unit.transport.peers import (
    Member,
    bound_socket,
    complaints_of,
    dialling,
    make_member,
    number_of,
    numbered,
    running,
)

SMALL = LinkSettings(
    frame_bytes_max=100_000,
    queue_bytes_max=1_000_000,
    write_bytes_high=50_000,
    stall_timeout_s=0.2,
    backoff_s_min=0.01,
    backoff_s_max=0.02,
)


def transport_of(member: Member) -> asyncio.Transport:
    connection = member.links._outgoing["b"]._connection
    assert connection is not None
    assert connection._transport is not None
    return connection._transport


def give_a_small_send_buffer(member: Member) -> None:
    """Make the kernel take little, so that what is not read stays with the member."""
    transport_of(member).get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)


async def test_a_link_is_up_once_both_have_greeted() -> None:
    async with dialling() as (member, peer):
        assert not member.links.is_up("b")
        assert not member.links.send("b", numbered(1))

        await peer.next_link()
        await member.wait_up()

        assert member.ups == [("b", "clients-of-b:7400")]
        assert member.links.is_up("b")
        assert member.links.send("b", numbered(1))


async def test_what_is_sent_together_leaves_in_one_write_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dialling() as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        transport = transport_of(member)
        writes: list[bytes] = []
        write = transport.write

        def count_and_write(data: bytes) -> None:
            writes.append(data)
            write(data)

        monkeypatch.setattr(transport, "write", count_and_write)

        member.links.send("b", [numbered(number) for number in range(100)])

        assert len(writes) == 1
        received = [number_of(await link.read_frame()) for _ in range(100)]
        assert received == list(range(100))


async def test_a_frame_beyond_the_limit_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async with dialling(SMALL) as (member, peer):
        await peer.next_link()
        await member.wait_up()

        assert not member.links.send("b", numbered(1, size=100_000))
        assert not member.links.send("b", [numbered(1), numbered(1, size=100_000)])

        assert member.links.queued_bytes("b") == 0
        assert "a frame of" in caplog.text


async def test_a_reader_that_does_not_read_costs_no_more_than_the_queue() -> None:
    patient = LinkSettings(queue_bytes_max=1_000_000, write_bytes_high=50_000)
    async with dialling(patient) as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        give_a_small_send_buffer(member)
        accepted = 0
        most = 0
        for number in range(2000):
            accepted += member.links.send("b", numbered(number, size=10_000))
            most = max(most, member.links.queued_bytes("b"))
            await asyncio.sleep(0)

        assert accepted < 2000
        assert 900_000 < most <= 1_000_000
        assert transport_of(member).get_write_buffer_size() < 400_000, "most of it waits where it is counted"
        received = [number_of(await link.read_frame()) for _ in range(accepted)]
        assert received == sorted(received)
        assert len(set(received)) == accepted
        assert member.links.send("b", numbered(0)), "there is room again"


async def test_of_more_than_the_queue_holds_the_first_frames_are_sent() -> None:
    """What is sent again together, after a change of leader, would be too much again each time."""
    async with dialling(LinkSettings(queue_bytes_max=1_000_000)) as (member, peer):
        link = await peer.next_link()
        await member.wait_up()

        assert not member.links.send("b", [numbered(number, size=10_000) for number in range(200)])
        assert member.links.send("b", numbered(1000))

        received = [number_of(await link.read_frame())]
        while received[-1] != 1000:
            received.append(number_of(await link.read_frame()))
        assert received == [*range(len(received) - 1), 1000]
        assert 90 <= len(received) <= 101


async def test_a_link_that_takes_nothing_is_closed_and_dialled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with dialling(SMALL) as (member, peer):
        await peer.next_link()
        await member.wait_up()
        give_a_small_send_buffer(member)
        assert member.links.send("b", [numbered(1, size=50_000)] * 19)

        await member.wait(lambda: bool(member.downs))

        assert (member.downs, member.gone) == (["b"], []), "it was not the peer's host that closed it"
        assert member.links.queued_bytes("b") == 0
        assert "takes nothing" in caplog.text
        await peer.next_link()
        await member.wait_up(2)


@pytest.mark.parametrize("by_reset", [True, False])
async def test_a_link_that_the_peer_ends_is_dialled_again_and_told_so(by_reset: bool) -> None:
    async with dialling() as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        if by_reset:
            link.writer.transport.abort()
        else:
            link.writer.close()

        await member.wait(lambda: (member.downs, member.gone) == (["b"], ["b"]))
        link = await peer.next_link()
        await member.wait_up(2)

        assert member.links.send("b", numbered(5))
        assert number_of(await link.read_frame()) == 5


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("timed out"),  # what the kernel says of a host that vanished
        OSError(errno.EHOSTUNREACH, "no route to host"),  # and when a router has said why
        ValueError("a fault of ours, upon which asyncio closes the connection"),
    ],
    ids=["timed out", "no route", "fault"],
)
async def test_a_link_that_was_lost_otherwise_was_not_closed_by_the_peers_host(error: Exception) -> None:
    async with dialling() as (member, peer):
        await peer.next_link()
        await member.wait_up()
        connection = member.links._outgoing["b"]._connection
        assert connection is not None

        connection.connection_lost(error)

        await member.wait(lambda: member.downs == ["b"])
        assert member.gone == []


async def test_frames_for_a_lost_link_do_not_come_out_of_the_next_one() -> None:
    async with dialling() as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        link.writer.transport.abort()
        await member.wait(lambda: bool(member.downs))
        assert not member.links.send("b", numbered(1))

        link = await peer.next_link()
        await member.wait_up(2)
        member.links.send("b", numbered(2))

        assert number_of(await link.read_frame()) == 2


@pytest.mark.parametrize(
    ("name", "cluster_id", "reason"),
    [
        ("c", "cluster", "wrong member: 'c' is not expected"),
        ("b", "other", "wrong cluster: 'other' instead of 'cluster'"),
    ],
)
async def test_the_wrong_one_at_a_peers_address_is_no_link(
    caplog: pytest.LogCaptureFixture, name: str, cluster_id: str, reason: str
) -> None:
    async with dialling() as (member, peer):
        link = await peer.next_link(name, cluster_id)
        await link.read_to_the_end()
        await peer.next_connection()  # it goes on trying

        assert member.ups == []
        assert reason in caplog.text


async def test_a_refusal_is_logged_with_its_reason_and_dialled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with dialling() as (member, peer):
        for _ in range(3):
            connection = await peer.next_connection()
            await connection.read_frame()
            await connection.send(with_length(refusal(Unwelcome("not today"))))
            await connection.read_to_the_end()

        assert member.ups == []
    said = [message for message in caplog.messages if "not today" in message]
    assert len(said) == 1
    assert "member 'b' at 127.0.0.1" in said[0]


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x05hello", b"\xff" * 9]
)
async def test_a_server_of_another_kind_at_a_peers_address_is_no_link(garbage: bytes) -> None:
    async with dialling() as (member, peer):
        connection = await peer.next_connection()
        await connection.send(garbage)
        await connection.read_to_the_end()
        await peer.next_link()
        await member.wait_up()


async def test_a_peer_that_accepts_and_says_nothing_is_dialled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    impatient = LinkSettings(greeting_timeout_s=0.05, backoff_s_min=0.01, backoff_s_max=0.02)
    async with dialling(impatient) as (_, peer):
        await peer.next_connection()
        await peer.next_connection()

        assert "does not answer" in caplog.text


async def test_a_peer_that_speaks_on_our_sending_connection_is_closed() -> None:
    async with dialling() as (member, peer):
        link = await peer.next_link()
        await member.wait_up()
        await link.send(with_length(numbered(1)))

        await member.wait(lambda: member.downs == ["b"])
        assert member.gone == []


async def test_a_peer_that_is_heard_from_is_dialled_without_further_delay() -> None:
    sluggish = LinkSettings(backoff_s_min=0.01, backoff_s_max=3600.0)
    late = bound_socket()
    member = make_member("a", bound_socket(), {"b": late.getsockname()}, settings=sluggish)
    member.links._outgoing["b"]._failures = 17  # so many attempts later it waits for up to an hour
    complaints = complaints_of(member)
    async with running(member):
        await member.wait(lambda: bool(complaints))
        peer = make_member("b", late, {"a": await member.links.listen()})
        async with running(peer):
            await member.wait_up()
            await peer.wait_up()


@pytest.mark.parametrize("host", ["10.0.0..4", ".x", "a" * 64, "a\x00b"])
async def test_an_address_that_nobody_can_look_up_ends_no_member(
    caplog: pytest.LogCaptureFixture, host: str
) -> None:
    """It may be in the log of the cluster, from where everybody has it."""
    b_socket = bound_socket()
    a = make_member("a", bound_socket(), {"b": b_socket.getsockname(), "c": (host, 7401)})
    complaints = complaints_of(a)
    b = make_member("b", b_socket, {"a": await a.links.listen()})
    async with running(a, b):
        await a.wait(lambda: sum("cannot reach member 'c'" in text for text in complaints) >= 2)
        await a.wait_up()
        assert a.links.send("b", numbered(1))
        await b.wait(lambda: b.numbers() == [1])
        assert a.task is not None
        assert not a.task.done()
    assert "is no host" in caplog.text
