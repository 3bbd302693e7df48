"""Why the service could not be reached: what each endpoint looks like from here, and what to do about it.

Rule of this file: it is asked after a failure only, looks for a second at most, and never fails itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from coordclient.cli.service_calls import EndpointStatus, ask_status
from coordclient.errors import ConnectionLostError, CoordError, OutcomeUnknownError, RequestTimeoutError

_LOOK_TIMEOUT_S: Final = 1.0


def advice_for(error: CoordError, endpoints: str) -> Iterator[str]:
    """Yield lines that help after `error`; none if its message says it all."""
    if isinstance(error, OutcomeUnknownError | RequestTimeoutError | ConnectionLostError):
        yield from _look(endpoints.split(","))
    if error.may_have_been_applied:
        yield "a write may or may not have been applied: look before you repeat it"


def _look(endpoints: list[str]) -> Iterator[str]:
    statuses = ask_status(endpoints, timeout_s=_LOOK_TIMEOUT_S)
    silent = [status for status in statuses if status.reply is None]
    for status in silent:
        yield f"{status.endpoint}: {_why_silent(status)}"
    answering = [status.reply for status in statuses if status.reply is not None]
    if not answering:
        yield "name other members with --endpoints or COORD_ENDPOINTS, or start a server: coordsvc serve"
        return
    if any(reply.leader for reply in answering):
        yield "the cluster has a leader: try again, or give it longer with --timeout"
        return
    members = max(len(reply.members) for reply in answering)
    yield (
        f"{answering[0].member} answers but knows no leader: a majority of the {members} members must run"
        " (see: coordctl status)"
    )


def _why_silent(status: EndpointStatus) -> str:
    """Tell a wrong name, a closed port, and a stranger behind the port apart."""
    host, _, port = status.endpoint.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_TIMEOUT_S):
            pass
    except socket.gaierror:
        return f"there is no host {host!r}"
    except ConnectionRefusedError:
        return "connection refused; no server is listening there"
    except TimeoutError:
        return "no answer; is the address right, and no firewall between?"
    except OSError as error:
        return error.strerror or "cannot be reached"
    return (
        f"something is listening, but it does not answer as a member's client port ({status.problem});"
        " peer and admin ports are no endpoints"
    )
