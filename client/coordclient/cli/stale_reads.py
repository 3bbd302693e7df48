"""Reads without a session, at any member that answers: for looking at a cluster that has lost its leader.

Rule of this file: what it returns may be old, and it changes nothing; gRPC's own errors end here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc

from coordclient.errors import (
    ConnectionLostError,
    CoordError,
    InvalidArgumentError,
    NoNodeError,
    RequestError,
)
from coordclient.types import Node, Stat, node_from_wire, stat_from_wire
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc, data_pb2

_ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_T = TypeVar("_T")


class StaleReader:
    """Stays with the first endpoint that answered, as long as it answers."""

    def __init__(self, endpoints: list[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channels = [grpc.insecure_channel(endpoint) for endpoint in endpoints]

    def get(self, path: str) -> Node:
        request = coordination_pb2.GetRequest(get=data_pb2.Get(path=path), consistency=data_pb2.STALE)
        reply = self._ask(path, lambda stub: stub.Get(request, timeout=self._timeout_s))
        return node_from_wire(reply.node)

    def exists(self, path: str) -> Stat | None:
        request = coordination_pb2.ExistsRequest(
            exists=data_pb2.Exists(path=path), consistency=data_pb2.STALE
        )
        reply = self._ask(path, lambda stub: stub.Exists(request, timeout=self._timeout_s))
        return stat_from_wire(reply.exists) if reply.HasField("exists") else None

    def get_children(self, path: str) -> list[str]:
        return [name for page in self._pages(path, with_nodes=False) for name in page.names]

    def get_children_nodes(self, path: str) -> list[Node]:
        return [node_from_wire(node) for page in self._pages(path, with_nodes=True) for node in page.nodes]

    def _pages(self, path: str, *, with_nodes: bool) -> list[data_pb2.Children]:
        pages = [self._page(path, "", with_nodes=with_nodes)]
        while pages[-1].more:
            pages.append(self._page(path, pages[-1].names[-1], with_nodes=with_nodes))
        return pages

    def _page(self, path: str, after: str, *, with_nodes: bool) -> data_pb2.Children:
        wanted = data_pb2.ListChildren(path=path, after=after, with_nodes=with_nodes)
        request = coordination_pb2.ListChildrenRequest(list_children=wanted, consistency=data_pb2.STALE)
        return self._ask(path, lambda stub: stub.ListChildren(request, timeout=self._timeout_s)).children

    def _ask(self, path: str, call: Callable[[coordination_pb2_grpc.CoordinationStub], _T]) -> _T:
        while self._channels:
            try:
                return call(coordination_pb2_grpc.CoordinationStub(self._channels[0]))
            except grpc.RpcError as error:
                if error.code() not in _ELSEWHERE:
                    raise _translate(error, path) from error
            self._channels.pop(0).close()
        raise ConnectionLostError("no member answered")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            channel.close()


def _translate(error: grpc.RpcError, path: str) -> CoordError:
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NoNodeError(details, path=path)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidArgumentError(details, path=path)
    return RequestError(details, path=path)
