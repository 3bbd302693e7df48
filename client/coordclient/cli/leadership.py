"""`coordctl leader show, transfer`: who leads, and who shall."""

from __future__ import annotations

import click

from coordclient.cli.arguments import MemberName
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.leader_calls import Leader, LeaderCalls
from coordclient.cli.output import Data, print_data, print_fields
from coordclient.errors import ConnectionLostError, OutcomeUnknownError, RequestError
from coordproto.v1 import coordination_pb2

_TRANSFER_TIMEOUT_S = 15.0


@click.group()
def leader() -> None:
    """Show the leader, and hand leadership over."""


@leader.command(cls=ServiceCommand)
def show(settings: Settings) -> None:
    """Show who leads, and where it answers. Exit code 3: nobody does."""
    found = LeaderCalls(settings).leader()
    if settings.for_people:
        print_fields([("leader", found.name), ("endpoint", found.endpoint), ("term", str(found.term))])
    else:
        print_data(_leader_data(found), settings.output_format)


@leader.command(cls=ServiceCommand, default_timeout_s=_TRANSFER_TIMEOUT_S)
@click.argument("member", type=MemberName(), required=False)
def transfer(settings: Settings, member: str | None) -> None:
    """Hand leadership to MEMBER, or to the most up-to-date other voter.

    Clients notice nothing but a short pause of writes.
    """
    calls = LeaderCalls(settings)
    before = calls.leader()
    if member != before.name:
        _transfer(calls, before, member or "")
    after = calls.leader()
    if not settings.for_people:
        print_data({**_leader_data(after), "former_leader": before.name}, settings.output_format)
    elif after.name == before.name:
        click.echo(f"{after.name} leads already, in term {after.term}")
    else:
        click.echo(f"{after.name} leads now, in term {after.term}; it was {before.name}")


def _transfer(calls: LeaderCalls, before: Leader, member: str) -> None:
    """Ask until the wanted member leads; nothing wanted: until another one does."""
    request = coordination_pb2.TransferLeadershipRequest(member=member)
    while True:
        try:
            calls.ask(
                lambda stub, timeout_s: stub.TransferLeadership(request, timeout=timeout_s), changes=True
            )
        except (ConnectionLostError, OutcomeUnknownError):
            # A leader that is about to hand over may go without an answer: what counts is who leads then.
            if calls.is_over:
                raise
        calls.look_again()
        leader = calls.leader().name
        if leader == member or (not member and leader != before.name):
            return
        if calls.is_over:
            raise RequestError(f"{leader} leads, not {member or 'another member'}: try again")
        calls.pause()


def _leader_data(found: Leader) -> Data:
    return {"leader": found.name, "endpoint": found.endpoint, "term": found.term}
