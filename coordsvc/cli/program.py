"""The commands of `coordsvc`. Rule of this file: it gathers them; each has a module of its own."""

from __future__ import annotations

import importlib.metadata

import click

from coordsvc.cli.dev import dev
from coordsvc.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(importlib.metadata.version("coordsvc"), prog_name="coordsvc")
def main() -> None:
    """coordsvc: a coordination service. Elect leaders, take locks, find services, share configuration.

    `coordsvc serve` runs one server, `coordsvc dev` a local cluster; `coordctl` talks to them.
    """


main.add_command(serve)
main.add_command(dev)
