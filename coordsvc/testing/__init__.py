"""Real servers for the tests of applications: in the test process, or beside it.

    async with running_server() as server:                # on the running event loop
        async with AsyncClient(server.endpoints) as client: ...

    with Server() as server, Client(server.endpoints) as client: ...     # for threads, unittest and others

    with Cluster() as cluster: ...                        # three server processes beside the test

With pytest, the fixtures `coord_server`, `coord_client`, `coord_cluster` are there by themselves.
"""

import os

# gRPC's C core writes to stderr, by itself, that a server went away, which a test does all the time. Whoever
# sets the variable, or imports gRPC first, keeps the say.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # It crashes children that a test forks.
# As `coordsvc serve` does: a member under test shall run on the gRPC that members run on.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from coordsvc.testing.cluster import AsyncCluster, AsyncMember
from coordsvc.testing.cluster_controls import Cluster, Member
from coordsvc.testing.errors import TestServerError
from coordsvc.testing.link import Drop, FaultyLink
from coordsvc.testing.link_controls import Link, LostMessage
from coordsvc.testing.server import AsyncServer, Server, running_server, start_server, stop_server

__all__ = [
    "AsyncServer",
    "running_server",
    "Server",
    "start_server",
    "stop_server",
    "AsyncCluster",
    "AsyncMember",
    "Cluster",
    "Member",
    "FaultyLink",
    "Drop",
    "Link",
    "LostMessage",
    "TestServerError",
]
