"""Drives etcd through its gRPC API from Python, on asyncio. See `bench.drivers` for the usage.

The messages are made from etcd's own .proto files by `bench.drivers.build`, into the scratch folder, which
must be on the module path.

Rule of this file: one channel a connection; calls as etcd's documentation shows them.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import grpc
import grpc.aio

from bench.drivers.load import TRANSACTION_SETS, Load, drive, load_of
from bench.measuring import BenchError

REQUEST_TIMEOUT_S = 30.0
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own for each channel


async def run(load: Load) -> str:
    # Generated for this machine only, so nothing is known of their types here.
    messages: Any = importlib.import_module("etcd.etcdserver.etcdserverpb.rpc_pb2")
    services: Any = importlib.import_module("etcd.etcdserver.etcdserverpb.rpc_pb2_grpc")
    value = load.value
    keys = [load.path(key).encode() for key in range(load.keys)]
    channels = [
        grpc.aio.insecure_channel(load.endpoint(connection), options=_OPTIONS)
        for connection in range(load.connections)
    ]
    stubs = [services.KVStub(channel) for channel in channels]

    def put(key: int) -> Any:
        return messages.PutRequest(key=keys[key % load.keys], value=value)

    async def operation(connection: int, kind: str, key: int) -> None:
        stub = stubs[connection]
        if kind == "write":
            await stub.Put(put(key), timeout=REQUEST_TIMEOUT_S)
        elif kind == "transaction":
            sets = [
                messages.RequestOp(request_put=put(number)) for number in range(key, key + TRANSACTION_SETS)
            ]
            answer = await stub.Txn(messages.TxnRequest(success=sets), timeout=REQUEST_TIMEOUT_S)
            if not answer.succeeded:
                raise BenchError("etcd did not do a transaction")
        else:
            request = messages.RangeRequest(key=keys[key % load.keys], serializable=kind == "session-read")
            answer = await stub.Range(request, timeout=REQUEST_TIMEOUT_S)
            if len(answer.kvs) != 1 or len(answer.kvs[0].value) != load.value_bytes:
                raise BenchError(f"{keys[key % load.keys]!r} has not the value that was written")

    try:
        for key in range(load.keys):
            await operation(0, "write", key)
        for connection in range(load.connections):  # a member that lags must know the keys first
            await operation(connection, "read", load.keys - 1)
        return (await drive(load, operation)).line()
    finally:
        for channel in channels:
            await channel.close()


if __name__ == "__main__":
    print(asyncio.run(run(load_of())))
