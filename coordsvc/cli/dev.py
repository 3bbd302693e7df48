"""`coordsvc dev`: a local cluster of real server processes, for development and for trying things out.

Rule of this file: it only reads options and refuses bad ones; `local_cluster` runs the processes.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import click

from coordsvc.cli.local_cluster import PORTS_PER_MEMBER, LocalCluster, LocalMember, plan_members


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True, help="number of members")
@click.option(
    "--base-port",
    type=click.IntRange(1, 65_000),
    default=7400,
    show_default=True,
    help="client port of the first member; peers +1, admin +2; the next member 10 higher",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("coordsvc-dev"),
    show_default=True,
    help="holds the data, the configuration and the log of every member",
)
@click.argument("serve_options", nargs=-1, type=click.UNPROCESSED)
def dev(nodes: int, base_port: int, data_dir: Path, serve_options: tuple[str, ...]) -> None:
    """Run a local cluster of NODES real server processes; Ctrl-C stops it all.

    SERVE_OPTIONS are handed on to each member: coordsvc dev --nodes 3 -- --log-level debug
    """
    members = plan_members(nodes, base_port, data_dir)
    _refuse_ports_in_use(members)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"cannot make the data directory {data_dir}: {error.strerror}") from error
    cluster = LocalCluster(members, serve_options, announce=click.echo)
    sys.exit(asyncio.run(cluster.run()))


def _refuse_ports_in_use(members: tuple[LocalMember, ...]) -> None:
    for member in members:
        for port in range(member.client_port, member.client_port + 3):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise click.UsageError(
                        f"port {port} on 127.0.0.1 cannot be used ({error.strerror}): stop what runs there,"
                        f" or move the cluster with --base-port ({PORTS_PER_MEMBER} ports a member)"
                    ) from error
