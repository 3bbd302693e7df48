"""`coordctl completion`: scripts that make a shell complete commands, options and paths."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_INSTALL = {
    "bash": 'eval "$(coordctl completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(coordctl completion zsh)"        # in ~/.zshrc',
    "fish": "coordctl completion fish | source       # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\nTo install:\n" + "\n".join(f"  {line}" for line in _INSTALL.values()))
@click.argument("shell", type=click.Choice(tuple(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell. It completes commands, options, and paths of the live tree."""
    kind = get_completion_class(shell)
    assert kind is not None, "every choice is one of click's shells"
    click.echo(kind(ctx.find_root().command, {}, "coordctl", "_COORDCTL_COMPLETE").source())
