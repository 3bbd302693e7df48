"""What `lock`, `semaphore` and `elect` have in common: wait, run a command or hold, and show who is there.

Rule of this file: what was granted is given back when the command has ended, and not before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeAlias

import click

from coordclient import Client, clock
from coordclient.cli.command import Settings, fail_line
from coordclient.cli.exit_codes import ExitCode
from coordclient.cli.output import Data, moment, print_data, print_item, print_table, session_name
from coordclient.cli.progress import ProgressLine
from coordclient.cli.running import run
from coordclient.cli.supervision import Course, margin_for
from coordclient.errors import RecipeTimeoutError
from coordclient.recipes.contenders import Contender
from coordclient.recipes.faces import BlockingGrant
from coordclient.recipes.signals import BlockingSignal
from coordclient.states import State

AnyGrant: TypeAlias = BlockingGrant[Any]
_COLUMNS: Final = ("STATE", "CLIENT", "HOST", "PID", "SINCE", "TOKEN", "SESSION")


class HeldGrant:
    """A grant as what a command runs under."""

    def __init__(self, grant: AnyGrant, revocation: BlockingSignal | None = None) -> None:
        """Describe it.

        Args:
            revocation: Who asks for the grant in this way gets it.
        """
        self.grant = grant
        self._revocation = revocation

    @property
    def valid_until(self) -> float:
        return self.grant.valid_until

    @property
    def lost(self) -> BlockingSignal:
        return self.grant.lost

    @property
    def must_stop(self) -> str:
        if not self._revocation:
            return ""
        return f"somebody asks for it: {self._revocation.reason or 'no reason given'}"

    def on_news(self, callback: Callable[[], None]) -> None:
        self.grant.lost.add_callback(callback)
        if self._revocation is not None:
            self._revocation.add_callback(callback)


class Waiting:
    """Waiting for a grant, with one deadline for all of it, connecting included."""

    def __init__(self, path: str, wait_s: float | None, *, may_wait: bool) -> None:
        if wait_s is not None and not may_wait:
            raise click.UsageError("--try does not wait, so it takes no --timeout")
        self.path = path
        self.may_wait = may_wait
        self._wait_s = wait_s
        self._deadline = None if wait_s is None else clock.now() + wait_s

    def acquire(
        self,
        client: Client,
        acquire: Callable[[float | None], AnyGrant],
        try_acquire: Callable[[], AnyGrant | None],
        contenders: Callable[[], list[Contender]],
    ) -> AnyGrant:
        """Return the grant; end with `ExitCode.NOT_GRANTED` if it is not to be had in time."""
        if not self.may_wait:
            grant = try_acquire()
            if grant is None:
                self._give_up(contenders, "is not free")
            return grant
        timeout = None if self._deadline is None else max(0.0, self._deadline - clock.now())
        try:
            with _losses_told(client, self.path), ProgressLine() as progress:
                if progress.is_shown and (present := contenders()):
                    progress.show(f"waiting for {self.path}, {_holders(present)}; Ctrl-C gives up")
                return acquire(timeout)
        except RecipeTimeoutError:
            self._give_up(contenders, f"was not granted within {self._wait_s:g} s")

    def _give_up(self, contenders: Callable[[], list[Contender]], what: str) -> NoReturn:
        fail_line(f"{self.path} {what}, {_holders(contenders())}")
        click.get_current_context().exit(ExitCode.NOT_GRANTED)


@contextmanager
def _losses_told(client: Client, path: str) -> Iterator[None]:
    """Say so when who waits has lost its place: it may be long before a member answers again."""
    was_lost = False

    def tell(state: State) -> None:
        nonlocal was_lost
        if state is State.LOST:
            fail_line(f"the session was lost; {path} is waited for again as soon as a member answers")
        elif state is State.CONNECTED and was_lost:
            fail_line(f"connected again, and waiting for {path}")
        was_lost = state is not State.CONNECTED and (was_lost or state is State.LOST)

    client.add_listener(tell)
    try:
        yield
    finally:
        client.remove_listener(tell)


def _holders(contenders: Sequence[Contender]) -> str:
    holders = [contender for contender in contenders if contender.is_holder]
    if not holders:
        return "held by nobody at present"
    first, more = holders[0], len(holders) - 1
    who = f"held by {first.client or 'somebody'} on {first.host or '?'} (pid {first.process_id})"
    return f"{who} since {moment(first.since_ms)}" + (f" and {more} more" if more else "")


def run_or_hold(
    settings: Settings,
    client: Client,
    path: str,
    held: HeldGrant,
    command: tuple[str, ...],
    grace_s: float,
) -> None:
    """Run the command while the grant is held, or hold it until Ctrl-C; then give it back."""
    grant = held.grant
    try:
        if not command:
            _hold(settings, client, path, held)
            return
        environment = {
            "COORD_PATH": path,
            "COORD_TOKEN": str(grant.token),
            "COORD_NODE": grant.path,
            "COORD_GUARD": "{}:{}".format(*grant.guard),
            "COORD_ENDPOINTS": settings.endpoints,
        }
        course = Course(grace_s=grace_s, margin_s=margin_for(client.session_timeout))
        ending = run(command, environment, held, course)
    finally:
        grant.release()
    if ending.is_lost:
        if not ending.stopped_because:
            why = grant.lost.reason or "it could not be renewed in time"
            fail_line(f"{path} was lost before the command had ended: {why}")
        fail_line(f"{path} is lost; the command ended with {ending.exit_code}")
        click.get_current_context().exit(ExitCode.LOST)
    click.get_current_context().exit(ending.exit_code)


def _hold(settings: Settings, client: Client, path: str, held: HeldGrant) -> None:
    grant = held.grant
    session = session_name(client.session_id)
    news = threading.Event()
    held.on_news(news.set)
    try:  # Who has read the token may send Ctrl-C at once.
        if settings.for_people:
            click.echo(grant.token)
        else:
            data = {"path": path, "token": grant.token, "node": grant.path, "session": session}
            print_item(data, settings.output_format)
        click.echo(
            f"holding {path} with token {grant.token} in session {session}; Ctrl-C lets it go", err=True
        )
        news.wait()
    except KeyboardInterrupt:
        return
    grant.check()
    fail_line(f"letting {path} go, {held.must_stop}")


# ---------------------------------------------------------------------------------------------
# Who is there


def client_name(command: Sequence[str]) -> str:
    """Return what others see of us: the name of the command, which says more than ours."""
    return os.path.basename(command[0]) if command else "coordctl"


def contender_data(contender: Contender) -> Data:
    return {
        "path": contender.path,
        "state": _state(contender),
        "kind": contender.kind,
        "weight": contender.weight,
        "client": contender.client,
        "host": contender.host,
        "process_id": contender.process_id,
        "since_ms": contender.since_ms,
        "token": contender.token,
        "session": session_name(contender.session_id),
    }


def print_contenders(contenders: Sequence[Contender], settings: Settings, *, verb: str = "holds") -> None:
    """Print who holds and who waits, in order."""
    if not settings.for_people:
        print_data([contender_data(contender) for contender in contenders], settings.output_format)
        return
    if not contenders:
        click.echo("nobody holds it, and nobody waits")
        return
    has_weights = any(contender.weight != 1 for contender in contenders)
    columns = (*_COLUMNS, "WEIGHT") if has_weights else _COLUMNS
    print_table(columns, [_row(contender, verb)[: len(columns)] for contender in contenders])


def _row(contender: Contender, verb: str) -> list[str]:
    state = _state(contender)
    return [
        verb if state == "holds" else state,
        contender.client or "-",
        contender.host or "-",
        str(contender.process_id or "-"),
        moment(contender.since_ms),
        str(contender.token or "-"),
        session_name(contender.session_id) or "-",
        str(contender.weight),
    ]


def _state(contender: Contender) -> str:
    """Say what a contender does. The place of one whose session has expired is kept for the lock-delay."""
    if not contender.session_id:
        return "delayed"
    return "holds" if contender.is_holder else "waits"
