"""Partitions have the shapes that their names promise, and every fault of links is healed at its end."""

from __future__ import annotations

import random

import pytest

from tests.chaos.link_faults import LinkTarget, link_fault
from tests.chaos.links import Link, Traffic
from tests.chaos.plan import LINK_FAULTS

SEEDS = range(20)


class FakeLinks:
    """Links without sockets."""

    def __init__(self) -> None:
        self.links: dict[tuple[str, str], Link] = {}

    def link(self, source: str, target: str) -> Link:
        return self.links.setdefault((source, target), Link(source, target))

    def client_link(self, member: str) -> Link:
        return self.link("clients", member)

    def reached(self, source: str, names: str) -> set[str]:
        """Return whom a member reaches in both directions, itself included."""
        return {name for name in names if name == source or self._passes(source, name)}

    def _passes(self, one: str, other: str) -> bool:
        return not any(self._is_cut(self.link(*pair)) for pair in ((one, other), (other, one)))

    def _is_cut(self, link: Link) -> bool:
        return link.is_refused or link.forward.is_held


def target(names: str, seed: int) -> tuple[FakeLinks, LinkTarget]:
    links = FakeLinks()
    return links, LinkTarget(links, names[0], list(names), random.Random(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_majority_ring_everybody_reaches_another_majority(seed: int) -> None:
    links, chosen = target("abcde", seed)
    with link_fault("majority-ring", chosen):
        reached = [frozenset(links.reached(name, "abcde")) for name in "abcde"]

    assert [len(group) for group in reached] == [3] * 5
    assert len(set(reached)) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bridge_joins_two_groups_that_do_not_reach_each_other(seed: int) -> None:
    links, chosen = target("abcde", seed)
    with link_fault("bridge", chosen):
        sizes = sorted(len(links.reached(name, "abcde")) for name in "abcde")

    assert sizes == [3, 3, 3, 3, 5]


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_are_whole_in_themselves(seed: int) -> None:
    links, chosen = target("abcde", seed)
    with link_fault("halves", chosen):
        groups = {frozenset(links.reached(name, "abcde")) for name in "abcde"}

    assert sorted(len(group) for group in groups) == [2, 3]


def test_a_leader_is_cut_off_both_ways_or_one_way() -> None:
    for kind in ("isolate-leader", "deaf-leader", "mute-leader"):
        links, chosen = target("abc", 1)
        with link_fault(kind, chosen):
            assert links.reached("a", "abc") == {"a"}
            cut = {pair for pair, link in links.links.items() if links._is_cut(link)}
        from_leader, to_leader = {("a", "b"), ("a", "c")}, {("b", "a"), ("c", "a")}
        assert (
            cut
            == {
                "isolate-leader": from_leader | to_leader,
                "deaf-leader": to_leader,
                "mute-leader": from_leader,
            }[kind]
        )


@pytest.mark.parametrize("kind", [kind for kind in LINK_FAULTS if kind not in ("broken", "clients-broken")])
def test_what_a_fault_has_changed_is_healed_at_its_end(kind: str) -> None:
    links, chosen = target("abcd", 3)
    with link_fault(kind, chosen):
        pass

    for link in links.links.values():
        assert (link.is_refused, link.forward, link.backward) == (False, Traffic(), Traffic())
