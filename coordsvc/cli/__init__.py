"""The `coordsvc` program. Rule of this package: it reads options and talks to people; it decides nothing."""

import os

# Before gRPC is imported: its core would print its own lines beside ours. GRPC_VERBOSITY brings them back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from coordsvc.cli.program import main

__all__ = ["main"]
