"""`coordctl service register, list, watch`: who offers a service, where, and how it is.

Rule of this file: an instance is registered for as long as its command runs, and not longer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import click

from coordclient.cli.arguments import Duration, PeerAddress
from coordclient.cli.command import ServiceCommand, Settings, fail_line
from coordclient.cli.connection import SESSION_TIMEOUT_S, connected
from coordclient.cli.health_pipe import HealthPipe
from coordclient.cli.held_grants import client_name
from coordclient.cli.output import Data, moment, print_data, print_item, print_table
from coordclient.cli.runner_command import RunnerCommand
from coordclient.cli.running import Unconditional, refuse_impossible, run
from coordclient.cli.supervision import Course
from coordclient.errors import CoordError
from coordclient.recipes.service_checks import Check
from coordclient.recipes.service_health import GrpcCheck, HttpCheck, TcpCheck, TtlCheck
from coordclient.recipes.service_registry import Registration
from coordclient.types import Instance, Status

_COLUMNS: Final = ("ID", "ADDRESS", "STATUS", "WEIGHT", "TAGS", "SINCE", "NOTE")
_COLOURS: Final = {Status.PASSING: "green", Status.WARNING: "yellow", Status.CRITICAL: "red"}
_tags = click.option(
    "--tag", "tags", multiple=True, help="only instances that have this tag; may be repeated"
)
_passing = click.option("--passing", is_flag=True, help="only instances whose status is passing")


class InstanceAddress(PeerAddress):
    """`HOST:PORT`, where an instance offers its service."""

    _port = 8080


class Payload(click.ParamType[Mapping[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Mapping[str, Any]:
        try:
            payload = json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(payload, dict):
            self.fail(f'{value!r} is no JSON object, such as \'{{"zone": "b"}}\'', param, ctx)
        return payload


@click.group()
def service() -> None:
    """Register, list and watch the instances of services."""


@service.command(cls=RunnerCommand)
@click.argument("name")
@click.argument("address", type=InstanceAddress(), metavar="HOST:PORT")
@click.option("--id", "instance_id", help="unique within the service  [default: made up]")
@click.option("--tag", "tags", multiple=True, help="a word by which others choose; may be repeated")
@click.option(
    "--weight", type=click.IntRange(1, 65_535), default=1, help="its share of the work  [default: 1]"
)
@click.option("--payload", type=Payload(), help="what else others should know: a JSON object")
@click.option("--http", multiple=True, metavar="URL", help="check: a GET must be answered with 2xx")
@click.option("--tcp", multiple=True, metavar="HOST:PORT", help="check: a connection must be accepted")
@click.option(
    "--grpc", multiple=True, metavar="HOST:PORT", help="check: gRPC's own health service must agree"
)
@click.option(
    "--ttl",
    type=Duration(),
    metavar="DURATION",
    help="check: the command writes how it is to COORD_HEALTH, at least so often",
)
@click.option(
    "--interval", type=Duration(), default=10.0, metavar="DURATION", help="between checks  [default: 10s]"
)
@click.option(
    "--check-timeout", type=Duration(), default=5.0, metavar="DURATION", help="of a check  [default: 5s]"
)
@click.option(
    "--critical-after",
    type=click.IntRange(min=1),
    default=3,
    help="so many failed checks in a row make it critical  [default: 3]",
)
@click.option(
    "--drain",
    type=Duration(),
    default=0.0,
    metavar="DURATION",
    help="when asked to end: say draining, and pass the signal on after this time",
)
@click.option(
    "--session-timeout",
    type=Duration(),
    default=SESSION_TIMEOUT_S,
    metavar="DURATION",
    help="how long the instance is still found after a crash of the machine  [default: 10s]",
)
def register(
    settings: Settings,
    name: str,
    address: str,
    command: tuple[str, ...],
    instance_id: str | None,
    tags: tuple[str, ...],
    weight: int,
    payload: Mapping[str, Any] | None,
    ttl: float | None,
    drain: float,
    session_timeout: float,
    **checks: Any,
) -> None:
    """Register an instance of the service NAME while a command runs; without a command, until Ctrl-C.

    \b
    coordctl service register api 10.0.0.7:8080 --http http://10.0.0.7:8080/health --drain 10s -- ./api

    With checks the instance is critical until each has passed once; without, it is passing from the start,
    before the command listens. Signals are passed on to the command, its exit code is returned, and its end
    takes the instance back. After a lost session the instance is registered again; the command runs on.

    \b
    echo "warning the disk is nearly full" > "$COORD_HEALTH"

    With --ttl the command says so itself how it is, with one of the words passing, warning and critical, and
    a note; if it says nothing for that long, it is critical.
    """
    if ttl is not None and not command:
        raise click.UsageError("--ttl is for a command, which says how it is; give one after --")
    if command:
        refuse_impossible(command)
    host, _, port = address.rpartition(":")
    beat = None if ttl is None else TtlCheck(ttl)
    checked = [*_checks(**checks), *([beat] if beat else [])]
    with connected(settings, session_timeout, name=client_name(command)) as client:
        registration = client.services.register(
            name,
            host,
            int(port),
            payload=payload,
            id=instance_id,
            tags=tags,
            weight=weight,
            health=checked or None,
        )
        with registration:
            if command:
                exit_code = _run(settings, name, registration, command, drain, beat)
            else:
                exit_code = _hold(settings, name, registration, drain)
    click.get_current_context().exit(exit_code)


def _checks(
    *,
    http: Sequence[str],
    tcp: Sequence[str],
    grpc: Sequence[str],
    interval: float,
    check_timeout: float,
    critical_after: int,
) -> list[Check]:
    rhythm: dict[str, Any] = {
        "interval": interval,
        "timeout": check_timeout,
        "critical_after": critical_after,
    }
    return [
        *(HttpCheck(url, **rhythm) for url in http),
        *(TcpCheck(target, **rhythm) for target in tcp),
        *(GrpcCheck(target, **rhythm) for target in grpc),
    ]


def _run(
    settings: Settings,
    name: str,
    registration: Registration,
    command: tuple[str, ...],
    drain_s: float,
    beat: TtlCheck | None,
) -> int:
    def drain() -> None:
        # Beside the loop that watches the command: the service may be out of reach.
        threading.Thread(target=_say_draining, args=(registration,), daemon=True).start()

    environment = {
        "COORD_SERVICE": name,
        "COORD_INSTANCE": registration.id,
        "COORD_NODE": registration.path,
        "COORD_ENDPOINTS": settings.endpoints,
    }
    course = Course(grace_s=0.0, drain_s=drain_s)
    with ExitStack() as stack:
        if beat is not None:
            environment["COORD_HEALTH"] = str(stack.enter_context(HealthPipe(beat)).path)
        return run(command, environment, Unconditional(), course, on_draining=drain).exit_code


def _say_draining(registration: Registration) -> None:
    try:
        registration.set_status(Status.DRAINING)
    except CoordError as error:
        fail_line(f"cannot say that {registration.id} is draining: {error}")


def _hold(settings: Settings, name: str, registration: Registration, drain_s: float) -> int:
    try:  # Who has read the id may send Ctrl-C at once.
        if settings.for_people:
            click.echo(registration.id)
        else:
            data = {"service": name, "id": registration.id, "node": registration.path}
            print_item(data, settings.output_format)
        click.echo(f"{name} is registered as {registration.id}; Ctrl-C takes it back", err=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        if drain_s > 0:
            registration.drain(drain_s)
    return 0


# ---------------------------------------------------------------------------------------------
# Looking


@service.command("list", cls=ServiceCommand)
@click.argument("name", required=False)
@_passing
@_tags
def list_services(settings: Settings, name: str | None, passing: bool, tags: tuple[str, ...]) -> None:
    """Print the services, or the instances of one."""
    with connected(settings) as client:
        services = client.services
        if name is not None:
            _print_instances(name, services.discover(name, passing=passing, tags=tags), settings)
            return
        found = {one: services.discover(one, passing=passing, tags=tags) for one in services.names()}
    if not settings.for_people:
        print_data([_service_data(*item) for item in found.items()], settings.output_format)
    elif not found:
        click.echo("no service has an instance")
    else:
        columns = ("SERVICE", "INSTANCES", *(status.value.upper() for status in Status))
        print_table(columns, [_service_row(*item) for item in found.items()])


@service.command("watch", cls=ServiceCommand)
@click.argument("name")
@_passing
@_tags
def watch_service(settings: Settings, name: str, passing: bool, tags: tuple[str, ...]) -> None:
    """Print the instances of a service, and then each change, until Ctrl-C."""
    known: dict[str, Instance] | None = None  # None: nothing was told yet
    was_stale = False
    with connected(settings) as client:
        for view in client.services.watch(name, passing=passing, tags=tags):
            present = {instance.id: instance for instance in view}
            if not settings.for_people:
                data = {"is_stale": view.is_stale, "instances": [_instance_data(one) for one in view]}
                print_item(data, settings.output_format)
                continue
            if view.is_stale != was_stale:
                what = "cannot be reached; what follows may be old" if view.is_stale else "is back"
                click.echo(f"the cluster {what}", err=True)
            _print_changes(known or {}, present)
            if not present and known != present:
                click.echo(f"{name} has no such instance now; waiting for one, until Ctrl-C", err=True)
            known, was_stale = present, view.is_stale


def _print_changes(known: Mapping[str, Instance], present: Mapping[str, Instance]) -> None:
    for gone in (known[identifier] for identifier in known if identifier not in present):
        click.echo(f"{click.style('-', fg='red')} {gone.id}  {gone.address}:{gone.port}")
    for instance in present.values():
        before = known.get(instance.id)
        if before == instance:
            continue
        sign = click.style("+", fg="green") if before is None else click.style("~", fg="yellow")
        status = click.style(instance.status.value, fg=_COLOURS.get(instance.status))
        line = f"{sign} {instance.id}  {instance.address}:{instance.port}  {status}"
        click.echo("  ".join(part for part in (line, " ".join(instance.tags), instance.note) if part))


def _print_instances(name: str, instances: Sequence[Instance], settings: Settings) -> None:
    if not settings.for_people:
        print_data([_instance_data(instance) for instance in instances], settings.output_format)
    elif not instances:
        click.echo(f"{name} has no such instance")
    else:
        print_table(_COLUMNS, [_instance_row(instance) for instance in instances])


def _instance_row(instance: Instance) -> list[str]:
    return [
        instance.id,
        f"{instance.address}:{instance.port}",
        instance.status.value,
        str(instance.weight),
        ",".join(instance.tags) or "-",
        moment(instance.registered_at_ms),
        instance.note,
    ]


def _instance_data(instance: Instance) -> Data:
    return {
        "service": instance.name,
        "id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "status": instance.status.value,
        "tags": list(instance.tags),
        "weight": instance.weight,
        "payload": dict(instance.payload),
        "note": instance.note,
        "registered_at_ms": instance.registered_at_ms,
        "token": instance.token,
    }


def _service_row(name: str, instances: Sequence[Instance]) -> list[str]:
    counts = [sum(instance.status is status for instance in instances) for status in Status]
    return [name, str(len(instances)), *map(str, counts)]


def _service_data(name: str, instances: Sequence[Instance]) -> Data:
    counts = {status.value: sum(instance.status is status for instance in instances) for status in Status}
    return {"service": name, "instances": len(instances), **counts}
