"""Endpoints: parsing, shuffled rounds, pauses that grow."""

from __future__ import annotations

import random

import pytest

from coordclient import InvalidArgumentError
from coordclient.endpoints import PAUSE_SECONDS_MAX, Endpoints, parse_endpoints


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1", ["a:1"]),
        ("a:1, b:2,a:1,", ["a:1", "b:2"]),
        ("a", ["a:7400"]),
        ("[::1]:7400", ["[::1]:7400"]),
        ("[::1]", ["[::1]:7400"]),
        (["a:1", "b:2"], ["a:1", "b:2"]),
    ],
)
def test_endpoints_are_host_and_port(text: str | list[str], expected: list[str]) -> None:
    assert parse_endpoints(text) == expected


@pytest.mark.parametrize("text", ["", ",", ":1", "a:", "a:x", "a:0", "a:65536", []])
def test_other_things_are_refused(text: str | list[str]) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_endpoints(text)


def test_every_round_tries_every_member_once() -> None:
    endpoints = Endpoints("a:1,b:1,c:1", random.Random(1))
    endpoints.learn(["d:1", "a:1"])

    for _ in range(3):
        tried = [endpoints.next()[0] for _ in range(4)]
        assert sorted(tried) == ["a:1", "b:1", "c:1", "d:1"]
        assert tried[3] == "d:1", "the configured ones come first"


def a_round(endpoints: Endpoints, avoid: str = "") -> list[str]:
    """One whole round, as tried after a success."""
    endpoints.succeeded()
    return [endpoints.next(avoid)[0] for _ in range(len(endpoints.known()))]


def test_the_members_come_first_once_one_of_them_was_attached_to() -> None:
    endpoints = Endpoints("a:1,b:1", random.Random(1))
    tried, _ = endpoints.next()
    endpoints.learn([tried, "c:1", "d:1"])

    left = {"a:1": "b:1", "b:1": "a:1"}[tried]
    for _ in range(20):
        order = a_round(endpoints)
        assert sorted(order[:3]) == sorted([tried, "c:1", "d:1"])
        assert order[3] == left, "configured, but no member: the last resort"


def test_configured_endpoints_are_never_forgotten() -> None:
    endpoints = Endpoints("a:1", random.Random(1))
    endpoints.next()
    endpoints.learn(["a:1", "b:1"])
    endpoints.learn(["b:1", "c:1"])

    for _ in range(20):
        assert a_round(endpoints)[2] == "a:1"
    endpoints.learn(["a:1", "c:1"])
    assert sorted(a_round(endpoints)) == ["a:1", "c:1"], "but the service's are, when they go"


def test_what_was_configured_comes_first_where_the_members_cannot_be_reached() -> None:
    """Behind a proxy: the service tells of addresses that mean nothing here."""
    endpoints = Endpoints("proxy:1", random.Random(1))
    endpoints.next()
    endpoints.learn(["a:1", "b:1"])

    for _ in range(20):
        assert a_round(endpoints)[0] == "proxy:1"
    while endpoints.next()[0] != "a:1":
        continue
    endpoints.learn(["a:1", "b:1"])
    assert a_round(endpoints)[2] == "proxy:1", "a member could be reached after all"


def test_the_member_that_was_left_is_tried_before_former_ones() -> None:
    endpoints = Endpoints("former:1", random.Random(1))
    endpoints.learn(["a:1", "b:1"])
    while endpoints.next()[0] != "a:1":
        continue
    endpoints.learn(["a:1", "b:1"])

    for _ in range(20):
        assert a_round(endpoints, avoid="a:1") == ["b:1", "a:1", "former:1"]


def test_a_round_that_was_begun_does_not_outlive_a_change_of_the_members() -> None:
    endpoints = Endpoints("a:1", random.Random(1))
    endpoints.next()
    endpoints.learn(["a:1", "b:1", "c:1"])
    endpoints.next()
    endpoints.learn(["d:1"])

    assert endpoints.next()[0] == "d:1"


@pytest.mark.parametrize("told", [[], ["0.0.0.0:7400", "[::]:7400", ":7400", "nonsense", "a:x"]])
def test_a_list_of_nothing_useful_changes_nothing(told: list[str]) -> None:
    """A wildcard would lead the client to its own host, where another cluster may listen."""
    endpoints = Endpoints("a:1", random.Random(1))
    endpoints.next()
    endpoints.learn(["a:1", "b:1"])
    endpoints.learn(told)

    assert sorted(endpoints.known()) == ["a:1", "b:1"]


def test_clients_spread_over_the_members() -> None:
    first = {Endpoints("a:1,b:1,c:1", random.Random(seed)).next()[0] for seed in range(30)}

    assert first == {"a:1", "b:1", "c:1"}


def test_the_member_that_was_left_is_tried_last() -> None:
    for seed in range(20):
        endpoints = Endpoints("a:1,b:1,c:1", random.Random(seed))
        assert [endpoints.next(avoid="b:1")[0] for _ in range(3)][2] == "b:1"


def test_pauses_come_between_rounds_and_grow_up_to_a_limit() -> None:
    endpoints = Endpoints("a:1,b:1", random.Random(1))
    pauses = [endpoints.next()[1] for _ in range(40)]

    assert pauses[0] == 0
    assert pauses[1::2] == [0] * 20
    assert 0 < pauses[2] < 0.2
    assert all(PAUSE_SECONDS_MAX / 2 <= pause <= PAUSE_SECONDS_MAX for pause in pauses[20::2])


def test_a_success_begins_afresh() -> None:
    endpoints = Endpoints("a:1", random.Random(1))
    for _ in range(10):
        endpoints.next()
    endpoints.succeeded()

    assert endpoints.next()[1] == 0


def patience_of_rounds(endpoints: Endpoints, timeout_s: float) -> list[float]:
    """The patience with the last endpoint of six rounds, none of which took the session in."""
    patience = []
    for _ in range(6):
        for _ in endpoints.configured:
            endpoints.next()
        patience.append(endpoints.patience(timeout_s))
    return patience


def test_patience_doubles_while_all_members_are_tried_in_vain() -> None:
    assert patience_of_rounds(Endpoints("a:1,b:1", random.Random(1)), 1.0) == [1, 1, 2, 4, 5, 5]


def test_a_member_is_not_waited_for_long_while_there_are_others_to_try() -> None:
    endpoints = Endpoints("a:1,b:1", random.Random(1))
    assert patience_of_rounds(endpoints, 12.0) == [1.5, 4, 5, 5, 5, 5]

    endpoints.succeeded()

    assert patience_of_rounds(endpoints, 12.0)[:2] == [1.5, 4]


def test_the_only_endpoint_is_given_its_time() -> None:
    """It may be busy, and to begin anew with it helps nobody."""
    endpoints = Endpoints("a:1", random.Random(1))
    endpoints.next()
    alone = endpoints.patience(12.0)
    endpoints.learn(["a:1", "b:1"])

    assert (alone, endpoints.patience(12.0)) == (4, 1.5)
