"""`host:port`, as members name each other's places.

Rule of this file: pure; whoever shows the reason to people says which setting or field it was.
"""

from __future__ import annotations

WILDCARD_HOSTS = ("0.0.0.0", "::", "")
"""What a server can listen on, and nobody can dial."""


class AddressFormError(ValueError):
    """A text that is no address. The message is the rest of a sentence that begins with its source."""


def split_host_and_port(address: str, *, port_min: int = 1) -> tuple[str, int]:
    """Take `host:port` or `[ipv6]:port` apart.

    Raises:
        AddressFormError: It is neither.
    """
    host, separator, port_text = address.rpartition(":")
    if not separator or not port_text.isascii() or not port_text.isdigit():
        raise AddressFormError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:7400")
    if len(port_text) > 5 or not port_min <= int(port_text) <= 65_535:
        raise AddressFormError(f"{address!r} has a port outside {port_min} to 65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port_text)
    if ":" in host or any(character in host for character in " /,="):
        raise AddressFormError(f"{address!r} is not HOST:PORT; write an IPv6 address as [::1]:7400")
    return host, int(port_text)
