"""How gRPC's core behaves in this process. It asks the environment, once, so this comes before gRPC does.

Rule of this file: a default, no more. Whoever sets a variable, or imports gRPC before the SDK, keeps the
say; and a command that `coordctl` runs is not told.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    # The core writes to stderr, by itself, that a server went away. It is no news to us, and nobody's to hear
    # who did not ask for it.
    "GRPC_VERBOSITY": "ERROR",
    # What gRPC does by itself at a fork crashes children of a process in which `grpc.aio` is in use, before
    # `forks.check_grpc` could say that there is no way on.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # The one thread that waits for events reads the sockets itself. By default a message passes through
    # four threads before it is ours, which takes longer than all the rest of gRPC: decision 0019.
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}

_SET_HERE = frozenset(_DEFAULTS) - frozenset(os.environ)
os.environ.update({name: _DEFAULTS[name] for name in sorted(_SET_HERE)})


def environment_of_others() -> dict[str, str]:
    """Return the environment for a program that is not ours: without what was set here."""
    return {name: value for name, value in os.environ.items() if name not in _SET_HERE}
