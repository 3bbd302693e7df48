"""`coordsvc serve`: run one member until it is told to stop, or cannot go on.

Rule of this file: options come from the settings of `ServerConfig`, so a setting is written down once.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from coordsvc.config import DEFAULT_NAME, ConfigError, ServerConfig, load_config, settings

EXIT_USAGE: Final = 2

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option_of(setting: dataclasses.Field[object]) -> Callable[[_Command], _Command]:
    # Values stay text here: the configuration converts and checks what comes from any source.
    default = "" if setting.default == "" else f"  [default: {setting.default}]"
    kind = "NUMBER" if isinstance(setting.default, int) else "TEXT"
    flag = "--" + setting.name.replace("_", "-")
    return click.option(flag, setting.name, metavar=kind, help=setting.metadata["description"] + default)


def _setting_options(command: _Command) -> _Command:
    for setting in reversed(settings()):
        command = _option_of(setting)(command)
    return command


@click.command(
    epilog="Every option can also be given as COORDSVC_<NAME> in the environment, or by name in --config."
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file of settings, such as data_dir = '/var/lib/coordsvc'; flags and environment win over it",
)
@_setting_options
@click.option(
    "--stop-at-eof", is_flag=True, hidden=True, help="stop when standard input ends (for supervisors)"
)
def serve(config_file: Path | None, stop_at_eof: bool, **flags: str | None) -> None:
    """Run one member of a cluster; without options, a working single-member cluster.

    A cluster of three by hand: start each with its own --name, --listen, --peer-listen, --admin-listen and
    --data-dir, and the same --initial-cluster a=HOST:PORT,b=HOST:PORT,c=HOST:PORT (peer addresses).

    One more member of a running cluster: --join HOST:PORT (where clients reach any member), with its own
    addresses and an empty --data-dir. It begins as a learner; 'coordctl member promote' gives it a vote.
    """
    if not __debug__:
        _refuse(
            "do not run with python -O or PYTHONOPTIMIZE: the checks of the service's invariants must stay on"
        )
    try:
        config = load_config(flags, os.environ, config_file)
    except ConfigError as error:
        _refuse(str(error))
    if stop_at_eof:
        threading.Thread(target=_stop_at_end_of_input, name="stop-at-eof", daemon=True).start()
    click.echo(start_lines(config))
    # Imported here, so that `--help` and a refused configuration do not wait for gRPC and LevelDB.
    from coordsvc.server.main import run

    sys.exit(run(config))


def start_lines(config: ServerConfig) -> str:
    """What a person wants to know at the start: who, where, and how to talk to it."""
    version = importlib.metadata.version("coordsvc")
    return "\n".join(
        (
            f"coordsvc {version}: {_who(config)}",
            f"  data     {config.data_dir.absolute()}",
            f"  clients  {config.listen}    (members {config.peer_listen}, health http://{config.admin_listen}/readyz)",
            f"  try      coordctl --endpoints {config.advertise_client or config.listen} status",
        )
    )


def _who(config: ServerConfig) -> str:
    """Who the settings make it: a data directory that is in use knows better, and says so when it is open."""
    if config.join:
        return f"{config.name or 'a new member'} of the cluster at {config.join}"
    if not config.initial_cluster:
        if config.data_dir.exists():
            return "the member that its data directory says"
        return f"{config.name or DEFAULT_NAME}, the only member of a new cluster"
    members = config.members
    company = "the only member" if len(members) == 1 else f"one of {len(members)} members"
    return f"{config.name or DEFAULT_NAME}, {company} of cluster {config.cluster_id}"


def _refuse(reason: str) -> NoReturn:
    click.echo(f"coordsvc: {reason}", err=True)
    sys.exit(EXIT_USAGE)


def _stop_at_end_of_input() -> None:
    """A supervisor that dies closes our standard input: nothing of it is left behind."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
