"""host:port, taken apart."""

from __future__ import annotations

import random

import pytest

from coordsvc.codec.addresses import AddressFormError, check_host_and_port, is_loopback, split_host_and_port


def test_a_host_and_a_port_come_apart_at_the_last_colon() -> None:
    assert split_host_and_port("db1:7401") == ("db1", 7401)
    assert split_host_and_port("[::1]:7401") == ("::1", 7401)
    assert split_host_and_port("db1:0", port_min=0) == ("db1", 0)


@pytest.mark.parametrize(
    "address",
    ["", "db1", "db1:", "db1:x", "db1:0", "db1:65536", "db1:" + "9" * 5000, "::1:7401", "a b:1", "a=b:1"],
)
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(AddressFormError):
        split_host_and_port(address)


@pytest.mark.parametrize(
    "address",
    [
        *("db1:7401", "db1.rack-2.example.com:7401", "db1.example.com.:7401", "my_service:7401", "_x:1"),
        *(
            "10.0.0.4:7401",
            "[::1]:7401",
            "[2001:db8::7]:7401",
            "[fe80::1%eth0]:7401",
            "b\u00fccher.example:1",
        ),
        *("a" * 63 + ":1", ".".join(["a" * 49] * 5) + ":1", ":7401", "0.0.0.0:7401", "[::]:7401"),
    ],
)
def test_hosts_that_can_be_looked_up_pass_the_check(address: str) -> None:
    assert check_host_and_port(address) == split_host_and_port(address)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0..4:7401", ".x:7401", "x..:7401", "10.0.0.256:7401", "10.0.0:7401", "010.0.0.1:7401"),
        *("a" * 64 + ":1", ".".join(["a" * 50] * 5) + ":1", "-x:1", "x-:1", "a\x00b:1", "a\n:1", "a;b:1"),
        *(
            "\ud800:1",
            "b\u00fccher..x:1",
            "\u00fc" * 63 + ":1",
            "x" * 100_000 + ":1",
            "\u00fc" * 100_000 + ":1",
        ),
        *(
            "[,=]:1",
            "[]:1",
            "[10.0.0.1]:1",
            "[db1]:1",
            "[::1,x]:1",
            "[::1%]:1",
            "[::1%,=]:1",
            "[" + ":" * 999 + "]:1",
        ),
    ],
)
def test_hosts_that_a_resolver_would_choke_on_do_not(address: str) -> None:
    with pytest.raises(AddressFormError):
        check_host_and_port(address)


def test_what_passes_the_check_can_be_given_to_a_resolver() -> None:
    """A resolver that is asked raises OSError at most; what it raises otherwise ends whoever dials."""
    alphabet = (
        "a",
        "Z",
        "7",
        ".",
        "-",
        "_",
        "\u00fc",
        "\u3002",
        "\u200d",
        "\u0130",
        "\xad",
        "a" * 31,
        ":",
        "[",
        "]",
        "%",
    )
    dice = random.Random(8)
    passed = 0
    for _ in range(20_000):
        text = "".join(dice.choices(alphabet, k=dice.randint(1, 9))) + ":7401"
        try:
            host, _ = check_host_and_port(text)
        except AddressFormError:
            continue
        passed += 1
        host.encode("idna")  # what `socket.getaddrinfo` does first
    assert passed > 500


def test_a_loopback_address_is_one_of_this_machine() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "::", "0.0.0.0", "db1", ""))
