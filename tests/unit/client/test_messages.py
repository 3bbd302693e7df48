"""Requests: flags, times to live, guards."""

from __future__ import annotations

import pytest

from coordclient import InvalidArgumentError
from coordclient.messages import create_mode, fill_create, guards_of
from coordproto.v1 import data_pb2


class Holder:
    guard = ("/locks/a/1", 5)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, data_pb2.PERSISTENT),
        ({"ephemeral": True}, data_pb2.EPHEMERAL),
        ({"sequential": True}, data_pb2.PERSISTENT_SEQUENTIAL),
        ({"ephemeral": True, "sequential": True}, data_pb2.EPHEMERAL_SEQUENTIAL),
        ({"container": True}, data_pb2.CONTAINER),
        ({"ttl": 1.0}, data_pb2.TTL),
        ({"ttl": 1.0, "sequential": True}, data_pb2.TTL_SEQUENTIAL),
    ],
)
def test_flags_become_modes(flags: dict[str, bool], expected: int) -> None:
    nothing = {"ephemeral": False, "sequential": False, "container": False, "ttl": None}

    assert create_mode(**{**nothing, **flags}) == expected  # type: ignore[arg-type]  # flags


def test_times_to_live_are_seconds() -> None:
    create = data_pb2.Create()
    fill_create(create, "/a", b"", mode=data_pb2.TTL, ttl=1.5, parents=False)

    assert create.ttl_ms == 1500


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        (None, []),
        (("/a", 1), [("/a", 1)]),
        (Holder(), [("/locks/a/1", 5)]),
        ([Holder(), ("/a", 1)], [("/locks/a/1", 5), ("/a", 1)]),
    ],
)
def test_guards_come_in_several_forms(guard: object, expected: list[tuple[str, int]]) -> None:
    assert guards_of(guard) == expected  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("guard", [5, ("/a", "1"), ["/a"], ("/a",)])
def test_what_is_no_guard_is_refused(guard: object) -> None:
    with pytest.raises(InvalidArgumentError):
        guards_of(guard)  # type: ignore[arg-type]  # that is what is tested
