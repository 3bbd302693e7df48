"""Real servers for the tests of applications: in the test process, or beside it.

    async with running_server() as server:                # on the running event loop
        async with AsyncClient(server.endpoints) as client: ...

    with Server() as server, Client(server.endpoints) as client: ...     # for threads, unittest and others

With pytest, the fixtures of `coordsvc.testing.plugin` are there by themselves.
"""

from coordsvc.testing.errors import TestServerError
from coordsvc.testing.server import AsyncServer, Server, running_server, start_server, stop_server

__all__ = ["AsyncServer", "Server", "TestServerError", "running_server", "start_server", "stop_server"]
