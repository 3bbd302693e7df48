"""The keys: children are contiguous and in order, and no text can reach a record that is not its own."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import (
    children_prefix,
    children_range,
    deadline_key,
    deadlines_before,
    ephemeral_key,
    history_key,
    history_position,
    node_key,
    node_path,
    numbered_path,
    result_key,
    result_position,
)

PATHS = [
    "/",
    "/a",
    "/a!",
    "/a!/x",
    "/a/b",
    "/a/b/c",
    "/a/\U0001f512",
    "/a0",
    "/a0/x",
    "/b",
    "/\ue000",
    "/\U0001f512",
]


def children_of(parent: str, after: str = "") -> list[str]:
    start, stop = children_range(children_prefix(parent), after)
    return [node_path(key) for key in sorted(map(node_key, PATHS)) if start <= key < stop]


def test_a_key_gives_its_path_back() -> None:
    assert [node_path(node_key(path)) for path in PATHS] == PATHS


def test_the_children_of_a_node_are_one_range_in_the_order_of_code_points() -> None:
    assert children_of("/") == ["/a", "/a!", "/a0", "/b", "/\ue000", "/\U0001f512"]
    assert children_of("/a") == ["/a/b", "/a/\U0001f512"]
    assert children_of("/a!") == ["/a!/x"]
    assert children_of("/b") == []


def test_a_page_starts_after_the_given_name() -> None:
    assert children_of("/", "a") == ["/a!", "/a0", "/b", "/\ue000", "/\U0001f512"]
    assert children_of("/", "a/") == ["/a0", "/b", "/\ue000", "/\U0001f512"]
    assert children_of("/", "\U0001f512") == []


@pytest.mark.parametrize("path", ["/a/", "//a", "/\0a", "/a\0b", "/a/\0b", "/\ud83d\udd12", "/a//b", "//"])
def test_an_invalid_path_has_the_key_of_no_node(path: str) -> None:
    assert node_key(path) not in {node_key(valid) for valid in PATHS}


def test_numbers_sort_as_numbers() -> None:
    keys = [history_key(zxid) for zxid in (1, 255, 256, 1 << 40)]
    assert keys == sorted(keys)
    assert history_position(keys[-1]) == 1 << 40
    assert result_position(result_key(7, 300)) == (7, 300)
    assert result_key(7, 256) < result_key(7, 257) < result_key(8, 1)


def test_index_keys_give_number_and_path_back() -> None:
    assert numbered_path(ephemeral_key(12, "/a/\U0001f512")) == (12, "/a/\U0001f512")
    assert numbered_path(deadline_key(1 << 41, "/a")) == (1 << 41, "/a")


def test_a_deadline_has_passed_only_when_now_is_later() -> None:
    start, stop = deadlines_before(1000)
    assert start <= deadline_key(0, "/a") < stop
    assert start <= deadline_key(999, "/a") < stop
    assert not deadline_key(1000, "/a") < stop
    assert deadlines_before(-5)[0] == deadlines_before(-5)[1]


def test_foreign_keys_are_refused() -> None:
    for read in (node_path, history_position, result_position, numbered_path):
        with pytest.raises(CorruptStateError, match="foreign"):
            read(b"?foreign")
    with pytest.raises(CorruptStateError, match="holds no path"):
        node_path(b"n\0\xff")
