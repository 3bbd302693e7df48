"""The `coordsvc` program. Rule of this package: it reads options and talks to people; it decides nothing."""

import os

# Before gRPC is imported: its core would print its own lines beside ours. GRPC_VERBOSITY brings them back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# And the one thread that waits for gRPC's events shall read the sockets itself. By default others do, and a
# message passes through four threads before it is ours: docs/decisions/0019. A version of gRPC that does not
# know these switches any more ignores them.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from coordsvc.cli.program import main

__all__ = ["main"]
