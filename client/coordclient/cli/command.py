"""A command that talks to the service: its shared options, and how its failures are told.

Rule of this file: shared options may stand before or after the command's name, and the later one wins; every
`CoordError` ends as one clear message on standard error and the exit code of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import click

from coordclient.cli.arguments import DEFAULT_ENDPOINTS, Duration, Endpoints
from coordclient.cli.diagnosis import advice_for
from coordclient.cli.exit_codes import ExitCode, exit_code_of
from coordclient.cli.output import OUTPUT_FORMATS
from coordclient.errors import ConnectionLostError, CoordError

DEFAULT_TIMEOUT_S: Final = 5.0
_SHARED: Final = ("endpoints", "given_timeout_s", "output_format", "color")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the shared options say."""

    endpoints: str = DEFAULT_ENDPOINTS
    given_timeout_s: float | None = None  # None: the command's own
    default_timeout_s: float = DEFAULT_TIMEOUT_S
    output_format: str = "table"
    color: bool | None = None  # None: on a terminal only

    @property
    def timeout_s(self) -> float:
        return self.default_timeout_s if self.given_timeout_s is None else self.given_timeout_s

    @property
    def for_people(self) -> bool:
        return self.output_format == "table"


def shared_options(default_timeout_s: float = DEFAULT_TIMEOUT_S) -> list[click.Parameter]:
    """Return fresh shared options; a value of None means not given."""
    return [
        click.Option(
            ["--endpoints"],
            type=Endpoints(),
            metavar="HOST:PORT,...",
            help=f"client addresses of members; also COORD_ENDPOINTS  [default: {DEFAULT_ENDPOINTS}]",
        ),
        click.Option(
            ["--timeout", "given_timeout_s"],
            type=Duration(),
            metavar="DURATION",
            help="how long to try, such as 500ms or 10s; also COORD_TIMEOUT"
            f"  [default: {default_timeout_s:g}s]",
        ),
        click.Option(
            ["-o", "--output", "output_format"],
            type=click.Choice(OUTPUT_FORMATS),
            help="tables for people, json and yaml for scripts; also COORD_OUTPUT  [default: table]",
        ),
        click.Option(
            ["--color/--no-color"],
            default=None,
            help="default: colour on a terminal only, and not if NO_COLOR is set",
        ),
    ]


class ServiceCommand(click.Command):
    """A command with the shared options, whose function takes `Settings` first."""

    def __init__(self, *args: Any, default_timeout_s: float = DEFAULT_TIMEOUT_S, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._default_timeout_s = default_timeout_s
        self.params.extend(shared_options(default_timeout_s))

    def invoke(self, ctx: click.Context) -> Any:
        settings = replace(apply_shared(ctx), default_timeout_s=self._default_timeout_s)
        ctx.params["settings"] = settings
        try:
            return super().invoke(ctx)
        except CoordError as error:
            report(error, settings)
            ctx.exit(exit_code_of(error))
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)


def apply_shared(ctx: click.Context) -> Settings:
    """Take the shared options out of the parameters; they win over those before the command's name."""
    settings = ctx.obj if isinstance(ctx.obj, Settings) else Settings()
    given = {name: ctx.params.pop(name) for name in _SHARED}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    ctx.color = settings.color
    return settings


def report(error: CoordError, settings: Settings) -> None:
    """Say on standard error what went wrong and what to do."""
    advice = list(advice_for(error, settings.endpoints))
    message = str(error)
    if isinstance(error, ConnectionLostError) and advice:
        # The advice says of every endpoint what the message, in the transport's words, says of the last one.
        message = message.partition(": ")[0]
    fail_line(message)
    for line in (*getattr(error, "__notes__", ()), *advice):
        click.echo(f"  {line}", err=True)


def fail_line(message: str) -> None:
    label = click.style("coordctl:", fg="red", bold=True)
    click.echo(f"{label} {message}", err=True)
