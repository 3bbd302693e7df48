"""The gRPC server of a member: what it does about clients that say nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordproto.v1.coordination_pb2 import Attach
from coordsvc.server import grpc_server
from coordsvc.testing.members import InProcessMember, quick_config
from tests.processes.conditions import eventually
from tests.processes.ports import HOST, free_ports
from tests.processes.proxy import Proxy
from tests.processes.raw_stream import RawStream


async def test_the_stream_of_a_client_that_is_gone_without_a_word_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "_SILENT_MS_MAX", 1_000)
    client_port, peer_port, proxy_port = free_ports(3)
    server = InProcessMember(quick_config(tmp_path / "data", client_port, peer_port))
    await server.start()
    try:
        async with Proxy(f"{HOST}:{client_port}", proxy_port) as proxy, RawStream(proxy.address) as stream:
            await stream.attach(Attach(timeout_ms=60_000))
            assert len(server.member.handles) == 1

            proxy.black_hole()

            async def attached() -> int:
                return len(server.member.handles)

            await eventually("the stream is given up", attached, until=lambda count: count == 0)
    finally:
        await server.stop()
