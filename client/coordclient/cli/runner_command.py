"""A command of `coordctl` that runs another: `coordctl lock PATH [OPTIONS] -- COMMAND...`.

Rule of this file: what stands after `--` belongs to the other command, and nothing before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from coordclient.cli.arguments import Duration
from coordclient.cli.command import ServiceCommand
from coordclient.cli.supervision import GRACE_FRACTION_MAX, grace_for

SESSION_TIMEOUT_S = 20.0
_F = TypeVar("_F", bound=Callable[..., Any])


class RunnerCommand(ServiceCommand):
    """Its function takes `command`, a tuple of words that may be empty, and `wait_s` if it waits."""

    def __init__(self, *args: Any, waits_for: str = "", needs_command: bool = False, **kwargs: Any) -> None:
        """Make the command.

        Args:
            waits_for: What `--timeout` bounds the waiting for; empty: it keeps its usual meaning.
        """
        super().__init__(*args, **kwargs)
        self._waits_for = waits_for
        self._needs_command = needs_command
        for parameter in self.params:
            if waits_for and isinstance(parameter, click.Option) and parameter.name == "given_timeout_s":
                parameter.help = f"how long to wait for {waits_for}  [default: as long as it takes]"

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        command = "-- COMMAND..." if self._needs_command else "[-- COMMAND...]"
        return [*super().collect_usage_pieces(ctx), command]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        own, command = args[:cut], tuple(args[cut + 1 :])
        ctx.allow_extra_args = True
        try:
            super().parse_args(ctx, own)
        except click.NoSuchOption as error:
            if cut < len(args):
                raise
            advice = f"{error.message} (the command to run, with its options, goes after --)"
            raise click.NoSuchOption(error.option_name, advice, error.possibilities, ctx) from error
        if ctx.args and not ctx.resilient_parsing:
            hint = " ".join(ctx.args)
            raise click.UsageError(f"put -- before the command to run: -- {hint}", ctx)
        if not command and (cut < len(args) or self._needs_command) and not ctx.resilient_parsing:
            raise click.UsageError("name the command to run after --", ctx)
        ctx.params["command"] = command
        if self._waits_for:
            ctx.params["wait_s"] = ctx.params.get("given_timeout_s")
        return ctx.args


def holding_options(function: _F) -> _F:
    """Add the options of everything that a command can run under."""
    options = (
        click.option(
            "--grace",
            type=Duration(),
            metavar="DURATION",
            help="on loss: from SIGTERM to SIGKILL  [default: 5s, at most a quarter of the session timeout]",
        ),
        click.option(
            "--session-timeout",
            type=Duration(),
            default=SESSION_TIMEOUT_S,
            metavar="DURATION",
            help="how long nobody else gets it after a crash, and how long a lost connection is ridden out"
            f"  [default: {SESSION_TIMEOUT_S:g}s]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def checked_grace(grace: float | None, session_timeout: float) -> float:
    """Return the time from SIGTERM to SIGKILL; it must leave time to ride out a lost connection."""
    if grace is None:
        return grace_for(session_timeout)
    if grace > session_timeout * GRACE_FRACTION_MAX:
        raise click.UsageError(
            f"--grace {grace:g}s needs a --session-timeout of {grace / GRACE_FRACTION_MAX:g}s or more:"
            " the command must have ended before the session can end"
        )
    return grace


def try_option(function: _F) -> _F:
    """Add `--try`."""
    return click.option(
        "--try", "may_not_wait", is_flag=True, help="do not wait: end with 124 if it is not free"
    )(function)
