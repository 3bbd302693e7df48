"""The `coordsvc` program. Rule of this package: it reads options and talks to people; it decides nothing."""

from coordsvc.cli.program import main

__all__ = ["main"]
