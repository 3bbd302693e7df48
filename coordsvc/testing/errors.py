"""What can go wrong with a server that runs for a test."""

from __future__ import annotations


class TestServerError(Exception):
    """A server of a test could not do what it was asked for; the message says what and why."""

    __test__ = False  # pytest: this is no class of tests
