"""Ports for the servers of tests: those of the testing support that users get."""

from __future__ import annotations

from coordsvc.testing.ports import HOST, free_ports

__all__ = ["HOST", "free_ports"]
