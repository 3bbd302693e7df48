"""The sockets of links: their options, and what their ends say.

Rule of this file: frames leave at once, and a host that vanished is noticed by the kernel.
"""

from __future__ import annotations

import asyncio
import socket

from coordsvc.transport.settings import LinkSettings


def was_closed_by_host(error: Exception | None) -> bool:
    """Say whether a connection that we did not close was closed or reset by the other host.

    Else the network lost it (it timed out, or a router says that there is no way), or we failed ourselves.
    """
    return error is None or isinstance(error, ConnectionError)


def prepare_socket(transport: asyncio.Transport, settings: LinkSettings) -> None:
    """Set the options on a connection that was just made."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    timeout_s = max(1, int(settings.stall_timeout_s))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system has all of these.
    for name, value in (
        ("TCP_KEEPIDLE", timeout_s),
        ("TCP_KEEPINTVL", max(1, timeout_s // 3)),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", timeout_s * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
