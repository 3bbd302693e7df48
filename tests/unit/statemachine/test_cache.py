"""The cache of decoded znodes: what was used lately stays, and the budget holds."""

from __future__ import annotations

from coordsvc.statemachine.cache import ZnodeCache
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import Znode


def node(value: bytes = b"") -> Znode:
    return Znode(value, Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, len(value), 0))


def test_a_node_is_found_until_it_is_dropped() -> None:
    cache = ZnodeCache(1 << 20)
    first = node()
    cache.put("/a", first)
    assert cache.get("/a") is first
    cache.drop("/a")
    assert cache.get("/a") is None


def test_the_number_of_nodes_stays_within_the_budget() -> None:
    cache = ZnodeCache(100_000)
    for number in range(10_000):
        cache.put(f"/{number}", node())
        assert len(cache) < 150


def test_large_values_count_by_their_size() -> None:
    cache = ZnodeCache(100_000)
    for number in range(100):
        cache.put(f"/{number}", node(bytes(10_000)))
        assert len(cache) <= 12


def test_a_node_in_use_outlives_many_that_are_not() -> None:
    cache = ZnodeCache(100_000)
    cache.put("/used", node())
    for number in range(10_000):
        cache.put(f"/{number}", node())
        assert cache.get("/used") is not None


def test_the_newest_version_wins_over_one_from_the_old_generation() -> None:
    cache = ZnodeCache(100_000)
    cache.put("/a", node(b"old"))
    for number in range(70):
        cache.put(f"/{number}", node())
    cache.put("/a", node(b"new"))
    found = cache.get("/a")
    assert found is not None
    assert found.value == b"new"
    cache.drop("/a")
    assert cache.get("/a") is None


def test_a_node_of_the_old_generation_can_be_dropped() -> None:
    cache = ZnodeCache(100_000)
    cache.put("/a", node())
    while "/a" in cache._young:
        cache.put(f"/{len(cache)}", node())
    cache.drop("/a")
    assert cache.get("/a") is None


def test_a_hot_node_that_is_set_again_and_again_pushes_nothing_out() -> None:
    cache = ZnodeCache(100_000)
    cache.put("/quiet", node())
    for number in range(10_000):
        cache.put("/hot", node(b"%d" % number))
    assert cache.get("/quiet") is not None
    assert len(cache) == 2
