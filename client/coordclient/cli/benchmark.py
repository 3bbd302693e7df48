"""`coordctl bench`: is this cluster fit for work? A bounded load, figures, and pass or fail with reasons.

Rule of this file: it talks to people and to the members; the load and the verdict have files of their own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

import click

from coordclient.cli.arguments import Duration, ZnodePath
from coordclient.cli.benchmark_load import LOADS, READS, WARM_UP_S, WRITES, Load, Offering, Samples, callers
from coordclient.cli.benchmark_report import print_report, report_data
from coordclient.cli.benchmark_verdict import Figures, Latencies, Limits, MemberFigures, judge
from coordclient.cli.cluster import ask_members, leader_of
from coordclient.cli.command import ServiceCommand, Settings, fail_line
from coordclient.cli.connection import async_client
from coordclient.cli.exit_codes import ExitCode
from coordclient.cli.output import print_data
from coordclient.cli.progress import ProgressLine
from coordclient.cli.service_calls import EndpointStatus, ask_sessions
from coordclient.errors import ConnectionLostError
from coordproto.v1 import coordination_pb2

CLIENT_NAME: Final = "coordctl bench"
_DEFAULTS: Final = Limits()
_LOOK_INTERVAL_S: Final = 0.25
_SECONDS_MAX: Final = 3600.0
_VALUE_BYTES_MAX: Final = 1 << 20
_NAMES_SHOWN: Final = 4


@click.command(cls=ServiceCommand)
@click.option(
    "--load",
    "load_name",
    type=click.Choice(tuple(LOADS)),
    default="s",
    help="small, medium or large  [default: s]",
)
@click.option(
    "--duration", type=Duration(), default=10.0, metavar="DURATION", help="how long  [default: 10s]"
)
@click.option(
    "--value-bytes",
    type=click.IntRange(0, _VALUE_BYTES_MAX),
    default=256,
    help="size of a value  [default: 256]",
)
@click.option(
    "--prefix",
    type=ZnodePath(),
    default="/coordctl-bench",
    metavar="PATH",
    help="where it writes; what is missing is made, and removed at the end  [default: /coordctl-bench]",
)
@click.option(
    "--p99-at-most", type=Duration(), default=_DEFAULTS.p99_ms / 1000, metavar="DURATION",
    help="of the writes, and of the reads  [default: 100ms]",
)  # fmt: skip
@click.option(
    "--slowest-at-most", type=Duration(), default=_DEFAULTS.slowest_ms / 1000, metavar="DURATION",
    help="the slowest operation  [default: 500ms]",
)  # fmt: skip
@click.option(
    "--throughput-at-least", type=click.FloatRange(0, 100), default=_DEFAULTS.throughput_percent,
    metavar="PERCENT", help="of the load, done  [default: 90]",
)  # fmt: skip
@click.option(
    "--errors-at-most", type=click.IntRange(min=0), default=_DEFAULTS.errors,
    help="operations that fail  [default: 0]",
)  # fmt: skip
@click.option(
    "--leader-changes-at-most", type=click.IntRange(min=0), default=_DEFAULTS.leader_changes,
    help="while it runs  [default: 0]",
)  # fmt: skip
@click.option("--yes", "-y", is_flag=True, help="do not ask, although others use the cluster")
def bench(
    settings: Settings,
    load_name: str,
    duration: float,
    value_bytes: int,
    prefix: str,
    p99_at_most: float,
    slowest_at_most: float,
    throughput_at_least: float,
    errors_at_most: int,
    leader_changes_at_most: int,
    yes: bool,
) -> None:
    """Put a load on the cluster, and say whether it is fit for work: PASS, or FAIL with reasons.

    \b
    --load s   12 sessions,   100 writes/s and   100 reads/s
    --load m   48 sessions,   500 writes/s and   500 reads/s
    --load l  120 sessions, 2,000 writes/s and 2,000 reads/s

    The load is paced, begins with a second that is not measured, and is spread over all members. Times count
    from when an operation was due. Writes are durable, reads linearizable. All that is written goes at the
    end, also after Ctrl-C, and by itself if this program is killed. If other clients have sessions, it asks
    first; in a script it wants --yes. Exit code 0: PASS; 1: FAIL, or others use the cluster.
    """
    if duration > _SECONDS_MAX:
        raise click.UsageError(f"--duration is at most {_SECONDS_MAX / 3600:g}h; this is a check, not a life")
    limits = Limits(
        p99_at_most * 1000,
        slowest_at_most * 1000,
        throughput_at_least,
        errors_at_most,
        leader_changes_at_most,
    )
    load = LOADS[load_name]
    if not yes:
        _ask_if_others_use_it(settings)
    watchman = _Watchman(settings)
    samples = _run(settings, watchman, load, prefix, value_bytes, duration)
    figures = watchman.figures(samples, duration)
    verdict = judge(figures, limits)
    if settings.for_people:
        what = f"load {load_name}: {load.sessions} sessions, values of {value_bytes:,} bytes, {duration:g} s"
        print_report(what, figures, verdict)
    else:
        print_data(
            {
                "load": {"name": load_name, **asdict(load), "value_bytes": value_bytes, "seconds": duration},
                "limits": asdict(limits),
                **report_data(figures, verdict),
            },
            settings.output_format,
        )
    if not verdict.has_passed:
        click.get_current_context().exit(ExitCode.REFUSED)


# ---------------------------------------------------------------------------------------------
# Before


def _ask_if_others_use_it(settings: Settings) -> None:
    """Whose cluster is this? A load is felt by all who use it."""
    others = ask_sessions(settings.endpoints.split(","), settings.timeout_s)
    if not others:
        return
    what = f"{_sessions(others)} on this cluster, and will feel the load"
    if not sys.stdin.isatty():
        fail_line(f"{what}; --yes says that this is all right")
        click.get_current_context().exit(ExitCode.REFUSED)
    click.confirm(f"{what}. Go on?", abort=True, err=True)


def _sessions(sessions: Sequence[coordination_pb2.SessionInfo]) -> str:
    names = Counter(session.client_name or "?" for session in sessions)
    shown = ", ".join(
        name if count == 1 else f"{count} x {name}" for name, count in names.most_common(_NAMES_SHOWN)
    )
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    verb = "client has a session" if len(sessions) == 1 else "clients have sessions"
    return f"{len(sessions)} {verb} ({shown}{more})"


# ---------------------------------------------------------------------------------------------
# Meanwhile


class _Watchman:
    """Asks the members again and again how they are: who leads, and who does not answer."""

    def __init__(self, settings: Settings) -> None:
        """Look for the first time.

        Raises:
            ConnectionLostError: Nobody answers, or nobody leads.
        """
        self._settings = settings
        self._leaders: list[tuple[int, str]] = []
        self._problems: dict[str, str] = {}  # of members that did not answer once
        self._statuses = ask_members(settings)
        if not leader_of(self._statuses):
            raise ConnectionLostError("there is no leader, so there is nothing to measure")
        self._take(self._statuses)

    @property
    def endpoints(self) -> list[str]:
        """Where the sessions go: to every member that answers."""
        return [status.endpoint for status in self._statuses if status.reply is not None]

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            self._take(await asyncio.to_thread(ask_members, self._settings))

    def _take(self, statuses: list[EndpointStatus]) -> None:
        for status in statuses:
            if status.reply is None and status.member:  # an endpoint that is nobody's is no member's fault
                self._problems.setdefault(status.member, status.problem)
        if leader := leader_of(statuses):
            term = max(status.reply.term for status in statuses if status.reply and status.reply.leader)
            if (term, leader) not in self._leaders:
                self._leaders.append((term, leader))

    def figures(self, samples: Samples, seconds: float) -> Figures:
        self._take(ask_members(self._settings))
        roles = {status.reply.member: status.reply.role for status in self._statuses if status.reply}
        for kind in (WRITES, READS):
            roles = dict.fromkeys(samples.latencies[kind], "") | roles
        members = [
            MemberFigures(
                member,
                role,
                samples.of_member(WRITES, member),
                samples.of_member(READS, member),
                self._problems.get(member, ""),
            )
            for member, role in (roles | {name: roles.get(name, "") for name in self._problems}).items()
        ]
        return Figures(
            asked_seconds=seconds,
            kinds={kind: samples.figures(kind, seconds) for kind in (WRITES, READS)},
            members=sorted(members, key=lambda member: member.member),
            leaders=self._leaders,
            failures=dict(samples.failures),
            late_p99_ms=Latencies.of(samples.late).p99_ms,
        )


def _run(
    settings: Settings, watchman: _Watchman, load: Load, prefix: str, value_bytes: int, seconds: float
) -> Samples:
    async def run() -> Samples:
        with _signals_cancel():
            async with callers(
                lambda endpoints: async_client(settings, endpoints, name=CLIENT_NAME),
                watchman.endpoints,
                prefix,
                load,
            ) as opened:
                offering = Offering(load, opened, value_bytes, seconds)
                beside = [
                    asyncio.create_task(watchman.watch()),
                    asyncio.create_task(_show_progress(offering, seconds)),
                ]
                try:
                    return await offering.run()
                finally:
                    for task in beside:
                        task.cancel()
                    await asyncio.wait(beside)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def _signals_cancel() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the run in good order: sessions are closed, nodes deleted."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _show_progress(offering: Offering, seconds: float) -> None:
    with ProgressLine() as progress:
        while True:
            left_s = offering.seconds_left
            done = sum(len(found) for kind in offering.samples.latencies.values() for found in kind.values())
            if left_s > seconds:
                progress.show(f"warming up for {WARM_UP_S:g} s; Ctrl-C gives up")
            else:
                progress.show(f"{left_s:.0f} s left, {done:,} operations; Ctrl-C gives up")
            await asyncio.sleep(_LOOK_INTERVAL_S)
