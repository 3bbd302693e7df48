"""The change feed: order, following over lost connections, errors that are ours."""

from __future__ import annotations

import pytest

from coordclient import AsyncClient, ConnectionLostError, HistoryTrimmedError
from coordclient.statuses import _error_in_status
from coordproto.v1 import data_pb2
from tests.unit.client.fake_server import FakeServer


async def test_following_goes_on_with_what_comes(client: AsyncClient, server: FakeServer) -> None:
    server.set("/a", b"1")
    feed = client.history(since=0, follow=True)
    assert (await anext(feed)).value == b"1"
    server.set("/b", b"2")
    assert (await anext(feed)).value == b"2"


async def test_history_that_is_gone_is_said_to_be(client: AsyncClient, server: FakeServer) -> None:
    server.history_begins_after = 10
    with pytest.raises(HistoryTrimmedError):
        await anext(client.history(since=5))


async def test_a_dead_member_is_a_lost_connection(client: AsyncClient, server: FakeServer) -> None:
    assert client._driver is not None
    client._driver.endpoint = "127.0.0.1:1"
    with pytest.raises(ConnectionLostError):
        await anext(client.history())


def test_the_typed_detail_is_found_in_a_status() -> None:
    """google.rpc.Status {code: 3, message: "no", details: [Any {type_url, value}]}, written by hand."""
    detail = data_pb2.Error(code=data_pb2.HISTORY_TRIMMED, message="gone")
    url = b"type.googleapis.com/coordproto.v1.Error"
    value = detail.SerializeToString()
    any_message = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(value)]) + value
    status = b"\x08\x03" + b"\x12\x02no" + b"\x1a" + bytes([len(any_message)]) + any_message

    assert _error_in_status(status) == detail
    assert _error_in_status(b"\x08\x03\x12\x02no") is None
    assert _error_in_status(b"\x1a\xff\xff") is None
