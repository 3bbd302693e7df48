"""`coordctl elect`: lead for as long as a command runs or until Ctrl-C, and see who leads.

Rule of this file: it only says which election and which options; waiting and running are done elsewhere.
"""

from __future__ import annotations

import socket

import click

from coordclient import Client
from coordclient.cli.arguments import ZnodePath
from coordclient.cli.command import Settings
from coordclient.cli.connection import connected
from coordclient.cli.held_grants import (
    AnyGrant,
    HeldGrant,
    Waiting,
    client_name,
    contender_data,
    print_contenders,
    run_or_hold,
)
from coordclient.cli.output import Data, preview, print_data, print_item, value_data
from coordclient.cli.runner_command import RunnerCommand, checked_grace, holding_options, try_option
from coordclient.cli.running import refuse_impossible
from coordclient.errors import RecipeTimeoutError
from coordclient.recipes.election import Election
from coordclient.types import Leader

TRY_WITHIN_S = 2.0  # between the end of a queue and being published as leader there are a few round trips


@click.command(cls=RunnerCommand, waits_for="the leadership")
@click.argument("path", type=ZnodePath())
@click.option("--value", help="what to publish while leading  [default: the name of this host]")
@try_option
@holding_options
@click.option("--who", "shows_who", is_flag=True, help="print who leads and who waits, in order")
@click.option("--observe", "observes", is_flag=True, help="print who leads, now and at every change")
def elect(
    settings: Settings,
    path: str,
    command: tuple[str, ...],
    wait_s: float | None,
    value: str | None,
    may_not_wait: bool,
    grace: float | None,
    session_timeout: float,
    shows_who: bool,
    observes: bool,
) -> None:
    """Run a command while leading the election PATH; without a command, lead until Ctrl-C.

    \b
    coordctl elect /elections/scheduler --value 10.0.0.7:80 -- ./scheduler
    coordctl elect /elections/scheduler --observe

    The environment of the command, signals, exit codes and what happens when the leadership is lost are those
    of `coordctl lock`.
    """
    if shows_who or observes:
        if command or (shows_who and observes):
            raise click.UsageError("--who, --observe and a command exclude each other")
        with connected(settings) as client:
            if shows_who:
                _print_candidates(Election(client, path), settings)
            else:
                _observe(client, path, settings)
        return
    grace_s = checked_grace(grace, session_timeout)
    if command:
        refuse_impossible(command)
    waiting = Waiting(path, wait_s, may_wait=not may_not_wait)
    published = (socket.gethostname() if value is None else value).encode("utf-8", "surrogateescape")
    with connected(settings, session_timeout, name=client_name(command)) as client:
        election = Election(client, path, published)
        term = waiting.acquire(
            client,
            lambda timeout: election.campaign(timeout=timeout),
            lambda: _try(election),
            election.candidates,
        )
        run_or_hold(settings, client, path, HeldGrant(term), command, grace_s)


def _try(election: Election) -> AnyGrant | None:
    if election.candidates():
        return None
    try:
        return election.campaign(timeout=TRY_WITHIN_S)
    except RecipeTimeoutError:
        return None  # Somebody was faster.


def _print_candidates(election: Election, settings: Settings) -> None:
    leader, candidates = election.leader(), election.candidates()
    if not settings.for_people:
        found = [contender_data(candidate) for candidate in candidates]
        print_data({"leader": _leader_data(leader), "candidates": found}, settings.output_format)
        return
    if leader is not None:
        click.echo(f"{preview(leader.value)}  leads with token {leader.token}")
    print_contenders(candidates, settings, verb="leads")


def _observe(client: Client, path: str, settings: Settings) -> None:
    for leader in Election(client, path).observe():
        if not settings.for_people:
            print_item({"leader": _leader_data(leader)}, settings.output_format)
        elif leader is None:
            click.secho(f"{'-':>8}  nobody leads", fg="red")
        else:
            click.echo(f"{leader.token:>8}  {preview(leader.value)}")


def _leader_data(leader: Leader | None) -> Data | None:
    return None if leader is None else {**value_data(leader.value), "token": leader.token}
