"""`coordctl session expire`: an operator ends somebody's session for good.

Rule of this file: whoever types it is asked first; a script is taken at its word.
"""

from __future__ import annotations

from typing import Any

import click
import grpc

from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.membership import is_at_terminal
from coordclient.cli.output import print_data, session_name
from coordclient.cli.service_calls import open_channel
from coordclient.errors import ConnectionLostError, CoordError, RequestError
from coordclient.statuses import error_from_status
from coordproto.v1 import coordination_pb2, coordination_pb2_grpc


class SessionId(click.ParamType[int]):
    """A session as `session list` shows it, or as a number."""

    name = "session"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            session_id = int(str(value), 0)
        except ValueError:
            session_id = 0
        if not 0 < session_id < 1 << 63:
            self.fail(
                f"{value!r} is no session; 'coordctl session list' shows them, such as 0x2a", param, ctx
            )
        return session_id


@click.command("expire", cls=ServiceCommand)
@click.argument("session_id", type=SessionId(), metavar="SESSION")
@click.option("--yes", "-y", is_flag=True, help="do not ask")
def expire_session(settings: Settings, session_id: int, yes: bool) -> None:
    """End a session for good, as if it had expired.

    Its ephemeral nodes go, so whatever its client holds (locks, leadership, registrations) is lost to it, and
    free for others; what lingers blocks for its time. The client is told if it is connected, and opens a new
    session. Its guarded writes fail at once, but until it hears of the loss it takes itself for the holder.
    """
    name = session_name(session_id)
    if not yes and is_at_terminal():
        click.confirm(f"end session {name}, and lose all that it holds?", abort=True, err=True)
    if not _ask(settings, session_id):
        raise RequestError(f"there is no session {name}; it may have ended already")
    if settings.for_people:
        click.echo(f"session {name} has ended, as if it had expired")
    else:
        print_data({"session": name}, settings.output_format)


def _ask(settings: Settings, session_id: int) -> bool:
    """Ask one endpoint after the other: a repeat is harmless. Return whether there was such a session.

    Raises:
        CoordError: None of them could do it.
    """
    request = coordination_pb2.ExpireSessionRequest(session_id=session_id)
    problem: CoordError = ConnectionLostError("no endpoint was given")
    may_have_ended = False
    for endpoint in settings.endpoints.split(","):
        with open_channel(endpoint) as channel:
            stub = coordination_pb2_grpc.ClusterStub(channel)
            try:
                answer = stub.ExpireSession(request, timeout=settings.timeout_s)
            except grpc.RpcError as failed:
                problem = error_from_status(failed, endpoint)
                may_have_ended |= failed.code() is not grpc.StatusCode.UNAVAILABLE
            else:
                return answer.existed or may_have_ended
    raise problem
