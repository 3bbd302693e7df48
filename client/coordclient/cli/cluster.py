"""`coordctl status` and `coordctl session`: what an operator asks the members."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from coordclient.cli.command import ServiceCommand, Settings
from coordclient.cli.exit_codes import ExitCode
from coordclient.cli.output import Data, age, print_data, print_table, session_name
from coordclient.cli.service_calls import EndpointStatus, ask_sessions, ask_status, known_members
from coordclient.cli.session_expiry import expire_session
from coordproto.v1 import coordination_pb2

_STATUS_COLUMNS = (
    "", "MEMBER", "ENDPOINT", "ROLE", "TERM", "ZXID", "APPLIED", "NODES", "SESSIONS", "CLIENTS", "WATCHES",
    "UP", "VERSION",
)  # fmt: skip
_STATUS_NUMBERS = (
    "term", "commit_index", "applied_index", "zxid", "sessions", "connections", "watches", "nodes",
    "log_entries", "oldest_history_zxid", "uptime_ms",
)  # fmt: skip


@click.command(cls=ServiceCommand)
@click.pass_context
def status(ctx: click.Context, settings: Settings) -> None:
    """Ask every member how it is, and mark the leader.

    Members that are named by those at --endpoints are asked too. Exit code 0: all members are well; 1: the
    cluster works, but a member does not answer; 3: there is no leader, or nobody answers. An endpoint that
    does not answer, and is no member's, is shown only.
    """
    statuses = ask_members(settings)
    leader = leader_of(statuses)
    if settings.for_people:
        print_table(_STATUS_COLUMNS, [_status_row(status, leader) for status in statuses])
        click.echo(_verdict(statuses, leader))
    else:
        data = {"leader": leader or None, "members": [_status_data(status, leader) for status in statuses]}
        print_data(data, settings.output_format)
    if not leader:
        ctx.exit(ExitCode.UNREACHABLE)
    if any(status.reply is None and status.member for status in statuses):
        ctx.exit(ExitCode.REFUSED)


def ask_members(settings: Settings) -> list[EndpointStatus]:
    """Ask the endpoints that were named, then the members that they know of."""
    named = list(dict.fromkeys(settings.endpoints.split(",")))
    statuses = ask_status(named, settings.timeout_s)
    known = known_members(statuses)
    answered = {status.reply.member for status in statuses if status.reply is not None}
    others = [
        address
        for name, address in known.items()
        if address and address not in named and name not in answered
    ]
    statuses += ask_status(others, settings.timeout_s)
    names = {address: name for name, address in known.items() if address}
    statuses = [replace(status, member=names.get(status.endpoint, "")) for status in statuses]
    statuses += [
        EndpointStatus("?", None, "never seen", name)
        for name, address in known.items()
        if not address and name not in answered
    ]
    return statuses


def leader_of(statuses: list[EndpointStatus]) -> str:
    """Return the leader of the highest term: one that was cut off may not know of its successor."""
    replies = [status.reply for status in statuses if status.reply is not None and status.reply.leader]
    return max(replies, key=lambda reply: reply.term).leader if replies else ""


def _status_row(status: EndpointStatus, leader: str) -> tuple[str, ...]:
    reply = status.reply
    if reply is None:
        return (
            "!",
            status.member or "?",
            status.endpoint,
            status.problem,
            *[""] * (len(_STATUS_COLUMNS) - 4),
        )
    return (
        "*" if reply.member == leader else "",
        reply.member,
        status.endpoint,
        reply.role,
        str(reply.term),
        str(reply.zxid),
        str(reply.applied_index),
        str(reply.nodes),
        str(reply.sessions),
        str(reply.connections),
        str(reply.watches),
        age(reply.uptime_ms),
        reply.version,
    )


def _status_data(status: EndpointStatus, leader: str) -> Data:
    reply = status.reply
    if reply is None:
        return {
            "endpoint": status.endpoint,
            "reachable": False,
            "member": status.member or None,
            "problem": status.problem,
        }
    return {
        "endpoint": status.endpoint,
        "reachable": True,
        "member": reply.member,
        "role": reply.role,
        "is_leader": reply.member == leader,
        "cluster_id": reply.cluster_id,
        "version": reply.version,
        "digest": f"{reply.digest:016x}",
        **{name: getattr(reply, name) for name in _STATUS_NUMBERS},
    }


def _verdict(statuses: list[EndpointStatus], leader: str) -> str:
    """One line: does the cluster work, and what may still fail."""
    replies = [status.reply for status in statuses if status.reply is not None]
    if not replies:
        return (
            click.style("no member answers", fg="red", bold=True) + ": is the endpoint right? (--endpoints)"
        )
    clusters = {reply.cluster_id for reply in replies}
    if len(clusters) > 1:
        return click.style(f"these are members of {len(clusters)} different clusters", fg="red", bold=True)
    members = max(replies, key=lambda reply: reply.applied_index).members
    voters = [member.name for member in members if not member.learner]
    total = len(voters)
    if not leader:
        return click.style("no leader", fg="red", bold=True) + f": a majority of the {total} members must run"
    answering = len(set(voters) & {reply.member for reply in replies})
    spare = answering - (total // 2 + 1)
    learners = {member.name for member in members if member.learner}
    silent = sorted(learners - {reply.member for reply in replies})
    beside = f"; learner {', '.join(silent)} does not answer" if silent else ""
    if answering >= total:
        more = f"; {spare} more may fail" if spare else "; none may fail"
        word = click.style("healthy", fg="green", bold=True)
        return f"{word}: {leader} leads, {total} of {total} answer{more}{beside}"
    more = f"{spare} more may fail" if spare > 0 else "no other may fail"
    word = click.style("degraded", fg="yellow", bold=True)
    return f"{word}: {leader} leads, {answering} of {total} members answer; {more}{beside}"


@click.group()
def session() -> None:
    """Look at the sessions of clients, and end them."""


session.add_command(expire_session)


@session.command("list", cls=ServiceCommand)
def list_sessions(settings: Settings) -> None:
    """List the sessions of the cluster: whose they are, where attached, what they hold."""
    sessions = ask_sessions(settings.endpoints.split(","), settings.timeout_s)
    if not settings.for_people:
        print_data([_session_data(found) for found in sessions], settings.output_format)
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (
            session_name(found.session_id),
            found.client_name or "-",
            found.member or "(not attached)",
            age(found.timeout_ms),
            str(found.ephemerals),
            f"{age(max(0, now_ms - found.opened_ms))} ago",
        )
        for found in sessions
    ]
    print_table(("SESSION", "CLIENT", "ATTACHED TO", "TIMEOUT", "EPHEMERALS", "OPENED"), rows)


def _session_data(found: coordination_pb2.SessionInfo) -> Data:
    return {
        "session": session_name(found.session_id),
        "client_name": found.client_name,
        "member": found.member or None,
        "timeout_ms": found.timeout_ms,
        "ephemerals": found.ephemerals,
        "opened_ms": found.opened_ms,
    }
