"""The gRPC server of a member: our services, the standard health service, reflection."""

from __future__ import annotations

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordproto.v1 import coordination_pb2, coordination_pb2_grpc
from coordsvc.api.cluster import ClusterService
from coordsvc.api.coordination import CoordinationService
from coordsvc.api.gateway import Gateway
from coordsvc.api.session_stream import SessionService

_CALLS_MAX = 20_000  # streams and unary calls at a time; more are refused with RESOURCE_EXHAUSTED
_LOOKAHEAD_BYTES = 2 << 20  # on their way from one client; covers 50 MB/s at a round trip of 40 ms
_SILENT_MS_MAX = 10_000  # then a client is asked whether it is there, and after as long again given up
_MESSAGE_SLACK_BYTES = 1 << 20  # above our own limit, which answers with a typed error


class GrpcServer:
    def __init__(self, gateway: Gateway, listen: str) -> None:
        limit = gateway.frame_bytes_max + _MESSAGE_SLACK_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", _SILENT_MS_MAX),  # a client that is gone without a word is noticed
                ("grpc.keepalive_timeout_ms", _SILENT_MS_MAX),
                ("grpc.http2.ping_timeout_ms", _SILENT_MS_MAX),  # without it the line above is not heeded
                ("grpc.http2.max_ping_strikes", 0),
                # Else gRPC sends a ping with every message that it receives, to find out how much may be on
                # its way: a third of the cost of a small one.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
            ],
            maximum_concurrent_rpcs=_CALLS_MAX,
        )
        coordination_pb2_grpc.add_CoordinationServicer_to_server(CoordinationService(gateway), self._server)
        coordination_pb2_grpc.add_ClusterServicer_to_server(ClusterService(gateway), self._server)
        self._server.add_generic_rpc_handlers((SessionService(gateway).handler(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = coordination_pb2.DESCRIPTOR.services_by_name.values()
        self._names = [service.full_name for service in services]
        reflection.enable_server_reflection(
            [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        self._listen = listen
        self._serving: bool | None = None

    async def start(self) -> None:
        """Bind and serve. Raises RuntimeError if the address cannot be had."""
        self._server.add_insecure_port(self._listen)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Say in the health service whether this member can serve."""
        if serving is self._serving:
            return
        self._serving = serving
        kinds = health_pb2.HealthCheckResponse
        status = kinds.SERVING if serving else kinds.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)
