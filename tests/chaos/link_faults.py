"""Faults of links: partitions of all shapes, and links that are slow, sliced, broken or half open.

Rule of this file: a fault changes the rules of links when it begins, and the end heals those links.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.chaos.links import Link


class Links(Protocol):
    """Whoever has the links."""

    def link(self, source: str, target: str) -> Link: ...
    def client_link(self, member: str) -> Link: ...


@dataclass(slots=True)
class LinkTarget:
    """What a fault of links may choose from."""

    cluster: Links
    leader: str
    names: list[str]
    dice: random.Random

    def between(self, group: Iterable[str], other: Iterable[str]) -> list[Link]:
        """Return the links both ways between two groups."""
        other = list(other)
        pairs = [(a, b) for a in group for b in other if a != b]
        return [self.cluster.link(*pair) for a, b in pairs for pair in ((a, b), (b, a))]

    def peer_links(self) -> list[Link]:
        return [self.cluster.link(a, b) for a in self.names for b in self.names if a != b]

    def client_links(self) -> list[Link]:
        return [self.cluster.client_link(name) for name in self.names]

    def some(self, links: list[Link]) -> list[Link]:
        """Return a part of the links, at least one."""
        return self.dice.sample(links, self.dice.randint(1, len(links))) if links else []

    def shuffled(self) -> list[str]:
        return self.dice.sample(self.names, len(self.names))


def _isolated(target: LinkTarget, name: str) -> list[Link]:
    return target.between([name], target.names)


def _one_way(target: LinkTarget) -> list[Link]:
    """Each of some members is heard by some others that it does not hear."""
    return target.some(target.peer_links())


def _to_leader(target: LinkTarget) -> list[Link]:
    return [target.cluster.link(name, target.leader) for name in target.names if name != target.leader]


def _from_leader(target: LinkTarget) -> list[Link]:
    return [target.cluster.link(target.leader, name) for name in target.names if name != target.leader]


def _partial(target: LinkTarget) -> list[Link]:
    """Two members that do not reach each other, while everybody else reaches both."""
    return target.between(*([name] for name in target.shuffled()[:2])) if len(target.names) > 1 else []


def _halves(target: LinkTarget) -> list[Link]:
    names = target.shuffled()
    half = len(names) // 2
    return target.between(names[:half], names[half:])


def _majority_ring(target: LinkTarget) -> list[Link]:
    """Everybody reaches a majority, and no two reach the same one."""
    names = target.shuffled()
    reach = (len(names) // 2 + 1) // 2  # to each side, on the ring
    cut = []
    for place, name in enumerate(names):
        for step in range(reach + 1, len(names) - reach):
            cut += target.between([name], [names[(place + step) % len(names)]])
    return cut or _partial(target)


def _bridge(target: LinkTarget) -> list[Link]:
    """Two halves that only one member reaches both of."""
    _, *names = target.shuffled()
    half = len(names) // 2
    return target.between(names[:half], names[half:])


_PARTITIONS: dict[str, Callable[[LinkTarget], list[Link]]] = {
    "isolate-leader": lambda target: _isolated(target, target.leader),
    "isolate-one": lambda target: _isolated(target, target.dice.choice(target.names)),
    "one-way": _one_way,
    "deaf-leader": _to_leader,
    "mute-leader": _from_leader,
    "partial": _partial,
    "halves": _halves,
    "majority-ring": _majority_ring,
    "bridge": _bridge,
}


def _begin(kind: str, target: LinkTarget) -> list[Link]:
    """Change the rules of links; return whose."""
    dice = target.dice
    partition = _PARTITIONS.get(kind)
    if partition is not None:
        links = partition(target)
        _cut(links, dice)
        return links
    if kind == "reset-all":
        links = [*target.peer_links(), *target.client_links()]
        for link in links:
            link.reset()
        return links
    if kind.startswith("clients-"):
        links = target.some(target.client_links())
    else:
        links = target.some([*target.peer_links(), *target.client_links()])
    for link in links:
        if kind == "slow":
            link.delay(dice.uniform(0.01, 0.6))
        elif kind == "sliced":
            link.slice(dice.choice((7, 64, 500)), dice.uniform(0.0, 0.004))
        elif kind in ("broken", "clients-broken"):
            link.break_after(dice.randint(0, 5000))
        elif kind == "half-open":
            link.half_open()
        else:
            assert kind == "clients-cut", kind
            _cut([link], dice)
    return links


def _cut(links: list[Link], dice: random.Random) -> None:
    """All in one way: refused at once, or silent."""
    is_silent = dice.random() < 0.6
    for link in links:
        if is_silent:
            link.hold()
        else:
            link.refuse()


@contextmanager
def link_fault(kind: str, target: LinkTarget) -> Iterator[str]:
    """Links are at fault in the block. Yields which, for people."""
    links = _begin(kind, target)
    try:
        yield " ".join(str(link) for link in links[:8]) + (" ..." if len(links) > 8 else "")
    finally:
        if kind not in ("broken", "clients-broken"):
            for link in links:
                link.heal()
