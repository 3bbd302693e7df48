"""The `coordctl` program. Rule of this package: it uses the SDK like any program."""

from coordclient.cli.program import main

__all__ = ["main"]
