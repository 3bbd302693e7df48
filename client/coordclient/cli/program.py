"""The commands of `coordctl`. Rule of this file: it gathers them; each family has a module of its own."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import signal
import sys
from dataclasses import replace
from types import FrameType
from typing import Any, Final

import click

from coordclient.cli.arguments import Duration, Endpoints
from coordclient.cli.benchmark import bench
from coordclient.cli.changes import history, watch
from coordclient.cli.cluster import session, status
from coordclient.cli.command import Settings, apply_shared, fail_line, shared_options
from coordclient.cli.completion import completion
from coordclient.cli.elections import elect
from coordclient.cli.exit_codes import EXIT_CODE_HELP, ExitCode
from coordclient.cli.leadership import leader
from coordclient.cli.listing import ls, tree
from coordclient.cli.locks import lock
from coordclient.cli.membership import member
from coordclient.cli.nodes import create, delete, get, set_value, stat
from coordclient.cli.output import OUTPUT_FORMATS
from coordclient.cli.semaphores import semaphore
from coordclient.cli.services import service

_DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Program(click.Group):
    """Takes the shared options before the command's name too, and tells of output that cannot be written."""

    def invoke(self, ctx: click.Context) -> object:
        ctx.obj = _settings_of_environment(ctx)
        ctx.obj = apply_shared(ctx)
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            # What is still buffered would fail again when the interpreter ends, with a message of its own.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            fail_line(f"the output could not be written: {os.strerror(error.errno)}")
            ctx.exit(ExitCode.REFUSED)


@click.group(
    cls=_Program,
    params=shared_options(),
    epilog=EXIT_CODE_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(importlib.metadata.version("coordclient"), prog_name="coordctl")
def main() -> None:
    """Look at and change what a coordsvc cluster holds.

    \b
    coordctl status                          how the cluster is
    coordctl create /app/config v1 --parents
    coordctl get /app/config
    coordctl ls -l /app
    coordctl watch -r /app                   follow changes until Ctrl-C
    coordctl lock /locks/backup -- ./backup.sh
    """
    # A supervisor's SIGTERM, or the end of the terminal, ends a command like Ctrl-C: sessions are closed,
    # ephemeral nodes go at once. What is ignored from the start (nohup) stays ignored.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _settings_of_environment(ctx: click.Context) -> Settings:
    """Read COORD_* once, at the root; options win over it."""
    found = Settings(color=False if os.environ.get("NO_COLOR") else None)
    values: dict[str, Any] = {}
    kinds: tuple[tuple[str, str, click.ParamType[Any]], ...] = (
        ("COORD_ENDPOINTS", "endpoints", Endpoints()),
        ("COORD_TIMEOUT", "given_timeout_s", Duration()),
        ("COORD_OUTPUT", "output_format", click.Choice(OUTPUT_FORMATS)),
    )
    for variable, name, kind in kinds:
        if text := os.environ.get(variable):
            try:
                values[name] = kind.convert(text, None, ctx)
            except click.BadParameter as error:
                raise click.UsageError(f"{variable}: {error.message}") from error
    return replace(found, **values)


_COMMANDS: tuple[click.Command, ...] = (
    ls, tree, get, set_value, create, delete, stat, watch, history,
    lock, semaphore, elect, service,
    status, member, leader, session, bench, completion,
)  # fmt: skip
for command in _COMMANDS:
    main.add_command(command)
