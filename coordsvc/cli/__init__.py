"""The `coordsvc` program. Rule of this package: it reads options and talks to people; it decides nothing."""

import os

# gRPC's core would print its own lines beside ours; whoever wants them sets GRPC_VERBOSITY. Before its import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from coordsvc.cli.program import main  # noqa: E402 - see above

__all__ = ["main"]
