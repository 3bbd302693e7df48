"""The grammar of paths: ZooKeeper's, opened to all of Unicode that is text."""

from __future__ import annotations

import pytest

from coordsvc.statemachine.paths import ancestors_of, child_of, clip, explain_invalid, parent_of, sequential

LIMIT = 4096


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/b/c",
        "/...",
        "/.x",
        "/x.",
        "/a..b",
        "/a/.../b",
        "/with space",
        "/größe",
        "/\u4e2d\u6587",
        "/\U0001f512/\U0001f468\u200d\U0001f469\u200d\U0001f467",  # emoji, with the joiners between them
        "/\U00010348",  # beyond the basic plane
        "/\ue000",  # private use
        "/\ufff0\ufffd",
        "/a\\b?*#",
    ],
)
def test_a_path_of_text_is_valid(path: str) -> None:
    assert explain_invalid(path, LIMIT) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "it is empty"),
        ("a", "it must start with '/'"),
        ("a/b", "it must start with '/'"),
        ("/a/", "it must not end with '/'"),
        ("//", "it must not end with '/'"),
        ("/a//b", "it has an empty name ('//')"),
        ("//a", "it has an empty name ('//')"),
        ("/.", "'.' and '..' are not allowed as names"),
        ("/..", "'.' and '..' are not allowed as names"),
        ("/a/./b", "'.' and '..' are not allowed as names"),
        ("/a/../b", "'.' and '..' are not allowed as names"),
        ("/a/..", "'.' and '..' are not allowed as names"),
        ("/a\0b", "character U+0000 at position 2 is not allowed"),
        ("/a\x01", "character U+0001 at position 2 is not allowed"),
        ("/a\x1f", "character U+001F at position 2 is not allowed"),
        ("/a\n", "character U+000A at position 2 is not allowed"),
        ("/a\x7f", "character U+007F at position 2 is not allowed"),
        ("/a\x9f", "character U+009F at position 2 is not allowed"),
        ("/a\ud800", "character U+D800 at position 2 is not allowed"),
        ("/a\udfff", "character U+DFFF at position 2 is not allowed"),
        ("/\ufffe", "character U+FFFE at position 1 is not allowed"),
        ("/\uffff", "character U+FFFF at position 1 is not allowed"),
    ],
)
def test_a_path_that_breaks_a_rule_is_refused_with_the_rule(path: str, reason: str) -> None:
    assert explain_invalid(path, LIMIT) == reason


def test_length_is_counted_in_bytes_of_utf8() -> None:
    assert explain_invalid("/" + "a" * (LIMIT - 1), LIMIT) is None
    assert explain_invalid("/" + "a" * LIMIT, LIMIT) == "it is 4097 bytes long, and at most 4096 are allowed"
    assert explain_invalid("/" + "\U0001f512" * 1023, LIMIT) is None
    assert (
        explain_invalid("/" + "\U0001f512" * 1024, LIMIT)
        == "it is 4097 bytes long, and at most 4096 are allowed"
    )


def test_every_forbidden_range_is_closed_on_both_sides() -> None:
    allowed = [code for code in range(0x10000) if explain_invalid(f"/{chr(code)}x", LIMIT) is None]
    refused = sorted(set(range(0x10000)) - set(allowed))
    expected = [*range(0x20), ord("/"), *range(0x7F, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF]
    assert refused == sorted(expected)


def test_parents_and_children_are_inverse_also_at_the_root() -> None:
    assert parent_of("/a") == "/"
    assert parent_of("/a/b") == "/a"
    assert child_of("/", "a") == "/a"
    assert child_of("/a", "b") == "/a/b"


def test_ancestors_go_from_the_top_down_without_the_root() -> None:
    assert ancestors_of("/a/b/c") == ["/a", "/a/b"]
    assert ancestors_of("/a") == []
    assert ancestors_of("/") == []


def test_sequential_numbers_have_ten_digits_and_then_more() -> None:
    assert sequential("/a-", 0) == "/a-0000000000"
    assert sequential("/a/", 2147483648) == "/a/2147483648"
    assert sequential("/a-", 10**10) == "/a-10000000000"


def test_long_text_is_clipped() -> None:
    assert clip("short") == "short"
    assert clip("a" * 300) == "a" * 256 + "..."
