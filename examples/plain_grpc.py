"""Without the SDK: create, read, watch and use a session with plain grpcio and the generated messages.

Written from protos/coordproto/v1/coordination.proto alone; any language with gRPC can do the same.
Run it beside `coordsvc serve`:  python examples/plain_grpc.py [ENDPOINT]
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import grpc

from coordproto.v1 import coordination_pb2 as api
from coordproto.v1 import coordination_pb2_grpc as services
from coordproto.v1 import data_pb2 as data

SESSION_TIMEOUT_MS = 5_000
CALL_TIMEOUT_S = 5.0


def run(endpoint: str) -> None:
    with grpc.insecure_channel(endpoint) as channel:
        grpc.channel_ready_future(channel).result(timeout=CALL_TIMEOUT_S)
        coordination = services.CoordinationStub(channel)
        node = create_and_read(coordination)
        watch_it_change(coordination, node)
        hold_an_ephemeral_node(coordination)
        coordination.Delete(
            api.DeleteRequest(delete=data.Delete(path="/plain", recursive=True)), timeout=CALL_TIMEOUT_S
        )


def create_and_read(coordination: services.CoordinationStub) -> data.Node:
    """A refusal comes back as a gRPC status; a write's answer names its transaction, the zxid."""
    wanted = data.Create(path="/plain/greeting", value=b"hello", parents=True)
    created = coordination.Create(api.CreateRequest(create=wanted), timeout=CALL_TIMEOUT_S)
    print(f"created {created.created.path} in transaction {created.zxid}")
    found = coordination.Get(api.GetRequest(get=data.Get(path="/plain/greeting")), timeout=CALL_TIMEOUT_S)
    print(f"read {found.node.value!r}, version {found.node.stat.version}")
    try:
        coordination.Create(api.CreateRequest(create=wanted), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        print(f"created again: refused with {error.code().name}: {error.details()}")
    return found.node


def watch_it_change(coordination: services.CoordinationStub, node: data.Node) -> None:
    """A watch that starts `since` a zxid misses nothing, whenever it is set."""
    events: Iterator[data.Event] = coordination.Watch(
        api.WatchRequest(path=node.path, with_values=True, since=node.stat.mzxid), timeout=CALL_TIMEOUT_S
    )
    change = data.Set(path=node.path, value=b"hello again", version=node.stat.version)
    answer = coordination.Set(api.SetRequest(set=change), timeout=CALL_TIMEOUT_S)
    event = next(events)
    print(f"watched {data.EventType.Name(event.type)} of {event.path} to {event.value!r}")
    assert event.zxid == answer.zxid


def hold_an_ephemeral_node(coordination: services.CoordinationStub) -> None:
    """A session owns ephemeral nodes; its writes are numbered, and a repeat gets the first answer."""
    opened = coordination.OpenSession(
        api.OpenSessionRequest(timeout_ms=SESSION_TIMEOUT_MS, client_name="plain-grpc"),
        timeout=CALL_TIMEOUT_S,
    )
    closing = threading.Event()
    keeper = threading.Thread(target=keep_alive, args=(coordination, opened, closing))
    keeper.start()
    request = api.CreateRequest(
        create=data.Create(path="/plain/worker-", mode=data.EPHEMERAL_SEQUENTIAL),
        session=api.SessionHeader(session_id=opened.session_id, secret=opened.secret, sequence=1),
    )
    first = coordination.Create(request, timeout=CALL_TIMEOUT_S)
    again = coordination.Create(request, timeout=CALL_TIMEOUT_S)  # as after a lost connection
    print(f"session {opened.session_id:#x} holds {first.created.path}; sent twice, made once")
    assert first.created.path == again.created.path
    closing.set()
    keeper.join()
    coordination.CloseSession(
        api.CloseSessionRequest(session_id=opened.session_id, secret=opened.secret), timeout=CALL_TIMEOUT_S
    )
    gone = coordination.Exists(
        api.ExistsRequest(exists=data.Exists(path=first.created.path)), timeout=CALL_TIMEOUT_S
    )
    print(f"session closed; {first.created.path} is {'gone' if gone.absent else 'still there'}")
    assert gone.absent


def keep_alive(
    coordination: services.CoordinationStub, opened: api.OpenSessionResponse, closing: threading.Event
) -> None:
    """Whoever holds a session must be heard from before its timeout; three times within it is prudent."""
    while not closing.wait(opened.timeout_ms / 3 / 1000):
        coordination.KeepAlive(
            api.KeepAliveRequest(session_id=opened.session_id, secret=opened.secret), timeout=CALL_TIMEOUT_S
        )


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7400")
