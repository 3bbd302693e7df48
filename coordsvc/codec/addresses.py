"""`host:port`, as members name each other's places.

Rule of this file: pure; whoever shows the reason to people says which setting or field it was. What comes
from outside is checked with `check_host_and_port`; what is written down already is only taken apart.
"""

from __future__ import annotations

import ipaddress
import re

HOST_LENGTH_MAX = 253

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SCOPE = re.compile(r"[A-Za-z0-9._-]{1,64}")

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


def check_host_and_port(address: str, *, port_min: int = 1) -> tuple[str, int]:
    """Take an address apart whose host can be looked up: no resolver chokes on it, known to it or not.

    Raises:
        AddressFormError: It is no `host:port`, or its host is neither an IP address nor a host name.
    """
    host, port = split_host_and_port(address, port_min=port_min)
    problem = _explain_bad_ipv6(host) if address.startswith("[") else _explain_bad_host(host)
    if problem:
        raise AddressFormError(f"{address[:300]!r}: {problem}")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether only servers on the same machine can dial it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _explain_bad_ipv6(host: str) -> str:
    plain, separator, scope = host.partition("%")
    try:
        ipaddress.IPv6Address(plain)
    except ValueError:
        return "what is in the brackets is no IPv6 address"
    if separator and not _SCOPE.fullmatch(scope):
        return "what follows the '%' is no name of an interface"
    return ""


def _explain_bad_host(host: str) -> str:
    """Say why this is neither an IPv4 address nor a host name. RFC 1123 section 2.1, and '_' as is usual."""
    if not host:
        return ""  # a wildcard
    if len(host) > HOST_LENGTH_MAX:
        return f"the host has {len(host)} characters; the limit is {HOST_LENGTH_MAX}"
    try:
        encoded = host.encode("idna").decode("ascii")
    except UnicodeError:
        return "the host is no host name: an empty part, one of more than 63 characters, or a strange one"
    labels = encoded.removesuffix(".").split(".")
    if len(encoded) > HOST_LENGTH_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        return "the host is no host name: its parts are 1 to 63 letters, digits, '-', with '.' in between"
    if labels[-1].isdigit() and not _is_ipv4(host):
        return "the host is no IPv4 address, and a host name does not end in a number"
    return ""


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
