"""What `coordctl bench` learns from the members while the load runs: who led, and who did not answer."""

from __future__ import annotations

import pytest

from coordclient.cli import benchmark
from coordclient.cli.benchmark_load import READS, WRITES, Samples
from coordclient.cli.benchmark_verdict import Figures, Limits, judge
from coordclient.cli.command import Settings
from coordclient.cli.service_calls import EndpointStatus
from coordclient.errors import ConnectionLostError
from coordproto.v1.coordination_pb2 import StatusResponse

Look = list[EndpointStatus]


def answers(name: str, leader: str, term: int) -> EndpointStatus:
    role = "leader" if name == leader else "follower"
    return EndpointStatus(
        f"{name}:1", StatusResponse(member=name, role=role, leader=leader, term=term), "", name
    )


def silent(name: str, member: str | None = None) -> EndpointStatus:
    return EndpointStatus(f"{name}:1", None, "unreachable", name if member is None else member)


def seen(monkeypatch: pytest.MonkeyPatch, *looks: Look) -> Figures:
    """What is known after these looks, the last of which is the one at the end."""
    following = iter(looks)
    monkeypatch.setattr(benchmark, "ask_members", lambda _settings: next(following))
    watchman = benchmark._Watchman(Settings())
    for look in looks[1:-1]:
        watchman._take(look)
        next(following)
    samples = Samples({WRITES: {"a": [0.001]}, READS: {}})
    return watchman.figures(samples, 1.0)


def test_a_leader_that_stays_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    look = [answers("a", "a", 3), answers("b", "a", 3)]

    figures = seen(monkeypatch, look, look, look)

    assert figures.leaders == [(3, "a")]
    assert [(member.member, member.role) for member in figures.members] == [
        ("a", "leader"),
        ("b", "follower"),
    ]


def test_each_leadership_counts_also_if_the_same_member_wins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = seen(
        monkeypatch,
        [answers("a", "a", 3)],
        [answers("a", "", 4)],
        [answers("a", "a", 5)],
        [answers("a", "a", 5)],
    )

    assert figures.leaders == [(3, "a"), (5, "a")]
    assert figures.leader_changes == 1


def test_who_was_cut_off_does_not_bring_its_former_leader_back(monkeypatch: pytest.MonkeyPatch) -> None:
    late = [answers("a", "b", 5), answers("b", "b", 5), answers("c", "a", 3)]

    assert seen(monkeypatch, [answers("a", "a", 3)], late, late).leaders == [(3, "a"), (5, "b")]


def test_a_member_that_was_silent_once_is_told_but_an_endpoint_of_nobody_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    well = [answers("a", "a", 3), answers("b", "a", 3)]
    figures = seen(monkeypatch, well, [answers("a", "a", 3), silent("b"), silent("x", member="")], well)

    assert judge(figures, Limits(throughput_percent=0.0)).reasons == (
        "member b does not answer: unreachable",
    )


def test_without_a_leader_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionLostError, match="no leader"):
        seen(monkeypatch, [answers("a", "", 3)], [])
