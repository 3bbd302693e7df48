"""`coordctl member list, add, remove, promote, replace`: who belongs to the cluster.

Rule of this file: it reads options and prints; `member_changes` carries the changes out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from coordclient.cli.arguments import MemberName, PeerAddress
from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.leader_calls import LeaderCalls, Members
from coordclient.cli.member_changes import (
    change_if_agreed,
    change_unless_done,
    change_when_caught_up,
    find_member,
)
from coordclient.cli.output import Data, print_data, print_table
from coordclient.cli.progress import ProgressLine
from coordproto.v1 import coordination_pb2

_CHANGE_TIMEOUT_S = 60.0
_COLUMNS = ("", "MEMBER", "ROLE", "STATE", "BEHIND", "CLIENTS AT", "MEMBERS AT")
_ROLES = {
    coordination_pb2.VOTER: "voter",
    coordination_pb2.LEARNER: "learner",
    coordination_pb2.JOINING_VOTER: "joining voter",
    coordination_pb2.LEAVING_VOTER: "leaving voter",
}

_Change = coordination_pb2.ChangeMembersRequest

force_option = click.option(
    "--force", is_flag=True, help="also if too few voters that can be reached are left"
)
yes_option = click.option("--yes", "-y", is_flag=True, help="do not ask before --force is used")


@click.group()
def member() -> None:
    """Show and change who belongs to the cluster.

    \b
    To add a voter:       start it with  coordsvc serve --join HOST:PORT --name d ...
                          coordctl member promote d
    To replace a member:  start the new one with --join, too
                          coordctl member replace a d
    """


@member.command("list", cls=ServiceCommand)
def list_members(settings: Settings) -> None:
    """List the members as the leader sees them.

    BEHIND is how many entries of the log a member lacks.
    """
    members = LeaderCalls(settings).members()
    if not settings.for_people:
        print_data(_members_data(members), settings.output_format)
        return
    print_table(_COLUMNS, [_row(found, members.last_index) for found in members.members])
    click.echo(_summary(members))


@member.command(cls=ServiceCommand, default_timeout_s=_CHANGE_TIMEOUT_S)
@click.argument("name", type=MemberName())
@click.argument("peer_address", type=PeerAddress(), metavar="HOST:PORT")
def add(settings: Settings, name: str, peer_address: str) -> None:
    """Announce a learner that is still to be started.

    HOST:PORT is where members will reach it. `coordsvc serve --join` does without this, for it announces
    itself; announced before, the name and the address are taken.
    """
    calls = LeaderCalls(settings)
    wanted = coordination_pb2.AddMember(name=name, peer_address=peer_address)

    def is_done(members: Members) -> bool:
        found = find_member(members, name)
        return found is not None and found.peer_address == peer_address

    members, was_done = change_unless_done(calls, _Change(add=wanted), is_done)
    if not settings.for_people:
        print_data(_members_data(members), settings.output_format)
        return
    already = " already" if was_done else ""
    added = find_member(members, name)
    if added is not None and added.started:
        click.echo(f"{name} is a member{already}, and was started; nothing is left to do")
        return
    join = next((found.client_address for found in members.members if found.leader), "") or settings.endpoints
    click.echo(f"{name} is announced{already}, as a learner; start it there with:")
    click.echo(
        f"  coordsvc serve --join {join} --name {name} --peer-listen {peer_address} --listen HOST:PORT"
    )


@member.command(cls=ServiceCommand, default_timeout_s=_CHANGE_TIMEOUT_S)
@click.argument("name", type=MemberName())
@force_option
@yes_option
def remove(settings: Settings, name: str, force: bool, yes: bool) -> None:
    """Remove a member for good. It stops by itself; a leader hands over first.

    Refused if fewer voters that can be reached would be left than a majority, unless --force is given.
    """
    calls = LeaderCalls(settings)
    request = _Change(remove=coordination_pb2.RemoveMember(name=name))
    members = change_if_agreed(
        calls,
        request,
        lambda members: find_member(members, name) is None,
        force=force,
        agree=_agreement(yes=yes),
    )
    _tell(settings, members, f"{name} is removed; its data directory is of no use any more")


@member.command(cls=ServiceCommand, default_timeout_s=_CHANGE_TIMEOUT_S)
@click.argument("name", type=MemberName())
def promote(settings: Settings, name: str) -> None:
    """Make a learner a voter, as soon as it has caught up."""
    calls = LeaderCalls(settings)
    request = _Change(promote=coordination_pb2.PromoteMember(name=name))
    with ProgressLine() as progress:
        members, was_done = change_when_caught_up(
            calls,
            name,
            progress,
            lambda: change_unless_done(calls, request, lambda members: _is_voter(members, name)),
        )
    _tell(settings, members, f"{name} is a voter already" if was_done else f"{name} is a voter now")


@member.command(cls=ServiceCommand, default_timeout_s=_CHANGE_TIMEOUT_S)
@click.argument("old", type=MemberName())
@click.argument("new", type=MemberName())
@force_option
@yes_option
def replace(settings: Settings, old: str, new: str, force: bool, yes: bool) -> None:
    """Put learner NEW in the place of voter OLD.

    It is one step, taken as soon as NEW has caught up; start NEW before with coordsvc serve --join. OLD stops
    by itself; a leader hands over first.
    """
    calls = LeaderCalls(settings)
    request = _Change(replace=coordination_pb2.ReplaceMember(name=old, by=new))

    def is_done(members: Members) -> bool:
        return find_member(members, old) is None and _is_voter(members, new)

    with ProgressLine() as progress:
        members = change_when_caught_up(
            calls,
            new,
            progress,
            lambda: change_if_agreed(calls, request, is_done, force=force, agree=_agreement(yes=yes)),
        )
    _tell(settings, members, f"{new} is a voter now, in the place of {old}, which is removed")


def _is_voter(members: Members, name: str) -> bool:
    found = find_member(members, name)
    return found is not None and found.role == coordination_pb2.VOTER


def is_at_terminal() -> bool:
    return sys.stdin.isatty()


def _agreement(*, yes: bool) -> Callable[[str], bool]:
    """Somebody at a terminal is asked whether to go on; a script that says --force has said so."""

    def agrees(stake: str) -> bool:
        click.echo(f"{click.style('at stake:', fg='yellow', bold=True)} {stake}", err=True)
        return yes or not is_at_terminal() or click.confirm("go on all the same?", err=True)

    return agrees


def _tell(settings: Settings, members: Members, what: str) -> None:
    if settings.for_people:
        click.echo(what)
        click.echo(_summary(members))
        addresses = [found.client_address for found in members.members if found.client_address]
        if not set(addresses) & set(settings.endpoints.split(",")):
            click.echo(f"from now on use --endpoints {','.join(addresses)}")
    else:
        print_data(_members_data(members), settings.output_format)


def _summary(members: Members) -> str:
    voters = [found for found in members.members if found.role != coordination_pb2.LEARNER]
    changing = [found for found in voters if found.role != coordination_pb2.VOTER]
    up = sum(found.reachable or found.leader for found in voters)
    needed = len(voters) // 2 + 1
    plural = "voter" if len(voters) == 1 else "voters"
    line = f"{len(voters)} {plural}, {up} up, {needed} needed"
    learners = len(members.members) - len(voters)
    if learners:
        line += f"; {learners} learner{'s' if learners > 1 else ''}"
    return line + ("; a change is under way" if changing else "")


def _row(found: coordination_pb2.MemberInfo, last_index: int) -> tuple[str, ...]:
    return (
        "*" if found.leader else "" if found.reachable else "!",
        found.name,
        _ROLES.get(found.role, "?"),
        _state(found),
        str(_behind(found, last_index)) if found.started or found.leader else "-",
        found.client_address or "?",
        found.peer_address,
    )


def _state(found: coordination_pb2.MemberInfo) -> str:
    if found.leader:
        return "leader"
    if found.reachable:
        return "up"
    return "down" if found.started else "not seen yet"


def _behind(found: coordination_pb2.MemberInfo, last_index: int) -> int:
    return 0 if found.leader else max(0, last_index - found.match_index)


def _members_data(members: Members) -> Data:
    return {
        "configuration_index": members.configuration_index,
        "last_index": members.last_index,
        "members": [
            {
                "member": found.name,
                "role": _ROLES.get(found.role, "?").replace(" ", "_"),
                "is_leader": found.leader,
                "reachable": found.reachable or found.leader,
                "started": found.started or found.leader,
                "match_index": found.match_index,
                "client_address": found.client_address or None,
                "peer_address": found.peer_address,
            }
            for found in members.members
        ],
    }
