"""Whole members linked over real sockets."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path

from coordproto.v1.peer_pb2 import REFUSAL_NOT_A_MEMBER
from coordsvc.transport.framing import with_length
from coordsvc.transport.handshake import Greeted, Identity, Unwelcome
from coordsvc.transport.settings import LinkSettings
from tests.unit.transport.peers import (
    Member,
    bound_socket,
    complaints_of,
    end,
    make_member,
    number_of,
    numbered,
    running,
    stranger,
)


def make_cluster(*names: str) -> list[Member]:
    sockets = {name: bound_socket() for name in names}
    addresses = {name: bound.getsockname() for name, bound in sockets.items()}
    return [
        make_member(
            name, sockets[name], {peer: address for peer, address in addresses.items() if peer != name}
        )
        for name in names
    ]


async def test_three_members_find_each_other_and_exchange_frames_in_order() -> None:
    members = make_cluster("a", "b", "c")
    async with running(*members):
        for member in members:
            await member.wait_up(2)
            assert sorted(member.ups) == [
                (name, f"clients-of-{name}:7400") for name in "abc" if name != member.name
            ]
        for number in range(500):
            for member in members:
                for peer in "abc":
                    if peer != member.name:
                        assert member.links.send(peer, numbered(number))
            if number % 7 == 0:
                await asyncio.sleep(0)

        for member in members:
            await member.wait(lambda: len(member.numbers()) == 1000)  # noqa: B023 - called before the next turn
            for peer in "abc":
                numbers = [
                    number_of(frame) for name, frames in member.batches if name == peer for frame in frames
                ]
                assert numbers == ([] if peer == member.name else list(range(500)))


async def test_frames_that_arrive_together_are_handed_over_together() -> None:
    a, b = make_cluster("a", "b")
    async with running(a, b):
        await a.wait_up()
        a.links.send("b", [numbered(number) for number in range(100)])
        await b.wait(lambda: len(b.numbers()) == 100)

        assert [(peer, len(frames)) for peer, frames in b.batches] == [("a", 100)]


async def test_large_and_small_frames_arrive_whole() -> None:
    a, b = make_cluster("a", "b")
    dice = random.Random(5)
    sizes = [dice.choice((0, 10, 3000, 70_000, 2_000_000)) for _ in range(60)]
    async with running(a, b):
        await a.wait_up()
        for number, size in enumerate(sizes):
            assert a.links.send("b", numbered(number, size))
        await b.wait(lambda: len(b.numbers()) == len(sizes))

    received = [frame for _, frames in b.batches for frame in frames]
    assert [(number_of(frame), len(frame.forward.commands[1])) for frame in received] == list(
        enumerate(sizes)
    )


async def test_a_member_that_ends_is_noticed_and_linked_again_when_it_returns() -> None:
    a, b = make_cluster("a", "b")
    port = (await b.links.listen())[1]
    async with running(a, b):
        await a.wait_up()
        await b.wait_up()

        await end(b)
        await a.wait(lambda: "b" in a.gone)
        assert a.downs == ["b"]
        assert not a.links.is_up("b")
        again = make_member("b", bound_socket(port), {"a": await a.links.listen()})
        async with running(again):
            await a.wait_up(2)
            await again.wait_up()
            assert a.links.send("b", numbered(1))
            await again.wait(lambda: again.numbers() == [1])


async def test_members_of_two_clusters_at_each_others_addresses_stay_apart() -> None:
    sockets = [bound_socket(), bound_socket()]
    quick = LinkSettings(backoff_s_min=0.01, backoff_s_max=0.02)
    a = make_member("a", sockets[0], {"b": sockets[1].getsockname()}, cluster_id="one", settings=quick)
    b = make_member("b", sockets[1], {"a": sockets[0].getsockname()}, cluster_id="two", settings=quick)
    heard = complaints_of(a)
    async with running(a, b):
        await a.wait(lambda: any("wrong cluster" in text for text in heard))

        assert (a.ups, b.ups, a.batches, b.batches) == ([], [], [], [])


async def test_sending_to_nobody_is_refused_without_an_error() -> None:
    (a,) = make_cluster("a")

    async with running(a):
        assert not a.links.send("nobody", numbered(1))
        assert not a.links.is_up("nobody")


def mutual_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make contexts for both ends; each demands the one certificate there is. Only these tests trust it."""
    certificate = Path(__file__).with_name("localhost.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=certificate)
    for context in (server, client):
        context.load_cert_chain(certificate)
    return server, client


async def test_members_link_over_tls_and_who_does_not_speak_it_stays_out() -> None:
    server, client = mutual_tls()
    sockets = [bound_socket(), bound_socket()]
    addresses = dict(zip("ab", (bound.getsockname() for bound in sockets), strict=True))
    a = make_member("a", sockets[0], {"b": addresses["b"]}, server_ssl=server, client_ssl=client)
    b = make_member("b", sockets[1], {"a": addresses["a"]}, server_ssl=server, client_ssl=client)
    async with running(a, b):
        await a.wait_up()
        await b.wait_up()
        assert a.links.send("b", [numbered(1, 300_000), numbered(2)])
        await b.wait(lambda: b.numbers() == [1, 2])

        async with stranger(addresses["b"]) as plain:
            await plain.send(with_length(Identity("cluster", "a", "").hello_to("b")))
            assert b"cluster" not in await plain.read_to_the_end()
        assert a.links.is_up("b")


class TestMembersComeAndGo:
    async def test_a_member_that_is_added_is_linked(self) -> None:
        a, b, c = make_cluster("a", "b", "c")
        addresses = {member.name: await member.links.listen() for member in (a, b, c)}
        for member in (a, b):
            member.links.set_members({name: addresses[name] for name in "ab" if name != member.name})
        async with running(a, b, c):
            await a.wait_up(1)
            assert not a.links.send("c", numbered(0))
            for member in (a, b):
                member.links.set_members({name: addresses[name] for name in "abc" if name != member.name})
            await a.wait_up(2)
            await c.wait_up(2)
            assert a.links.send("c", numbered(1))
            await c.wait(lambda: c.numbers() == [1])

    async def test_a_member_that_is_taken_away_is_cut_off_and_told_why_when_it_dials(self) -> None:
        sockets = {name: bound_socket() for name in "ab"}
        gone: list[str] = []

        def admit(greeted: Greeted) -> Unwelcome | None:
            return Unwelcome("it was removed", REFUSAL_NOT_A_MEMBER, 12) if greeted.name in gone else None

        a = make_member("a", sockets["a"], {"b": sockets["b"].getsockname()}, admit=admit)
        b = make_member("b", sockets["b"], {"a": sockets["a"].getsockname()})
        async with running(a, b):
            await a.wait_up()
            await b.wait_up()
            gone.append("b")
            a.links.set_members({})
            assert a.downs == ["b"]
            await b.wait(lambda: bool(b.refusals))
            assert b.refusals[0] == ("a", REFUSAL_NOT_A_MEMBER, 12)
            assert not a.links.is_up("b")
            assert not a.links.send("b", numbered(0))
            assert a.links.queued_bytes("b") == 0

    async def test_one_that_was_let_in_and_is_not_among_the_members_is_cut_off_too(self) -> None:
        """It was never dialled: nobody knew where it is."""
        sockets = {name: bound_socket() for name in "ab"}
        a = make_member("a", sockets["a"], {}, admit=lambda _: None)
        b = make_member("b", sockets["b"], {"a": sockets["a"].getsockname()}, admit=lambda _: None)
        async with running(a, b):
            await b.wait_up()
            a.links.set_members({})
            await b.wait(lambda: len(b.downs) == 1)

    async def test_a_member_that_moves_is_dialled_where_it_is_now(self) -> None:
        a, b = make_cluster("a", "b")
        async with running(a, b):
            await a.wait_up()
            await end(b)
            await a.wait(lambda: len(a.downs) == 1)
            moved = make_member("b", bound_socket(), {"a": await a.links.listen()})
            async with running(moved):
                a.links.set_members({"b": await moved.links.listen()})
                await a.wait_up(2)

    async def test_what_does_not_change_is_left_alone(self) -> None:
        a, b = make_cluster("a", "b")
        async with running(a, b):
            await a.wait_up()
            a.links.set_members({"b": await b.links.listen()})
            assert a.links.is_up("b")
            assert a.downs == []

    async def test_a_dialler_does_not_keep_a_link_to_one_that_it_may_not_have(self) -> None:
        sockets = {name: bound_socket() for name in "ab"}
        a = make_member(
            "a", sockets["a"], {"b": sockets["b"].getsockname()}, admit=lambda _: Unwelcome("another disk")
        )
        b = make_member("b", sockets["b"], {"a": sockets["a"].getsockname()})
        complaints = complaints_of(a)
        async with running(a, b):
            await a.wait(lambda: any("another disk" in text for text in complaints))
            assert a.ups == []
