"""How `coordctl bench` tells what it found: tables for people, data for scripts.

Rule of this file: it decides nothing; what is good and what is not stands in the verdict.
"""

from __future__ import annotations

import click

from coordclient.cli.benchmark_verdict import Figures, Latencies, MemberFigures, Verdict, milliseconds
from coordclient.cli.output import Data, print_table


def print_report(what: str, figures: Figures, verdict: Verdict) -> None:
    click.echo(what)
    rows = []
    for kind, found in figures.kinds.items():
        rows.append((kind, f"{found.per_second:,.0f}/s", *_times(found.latencies), f"{found.errors} failed"))
    print_table(("", "DONE", "P50", "P99", "MAX", "ERRORS"), rows)
    columns = ("MEMBER", "ROLE", "WRITES P50", "P99", "MAX", "READS P50", "P99", "MAX")
    print_table(columns, [_member_row(member) for member in figures.members])
    slowest = figures.slowest_member
    if slowest is not None and len(figures.members) > 1:
        click.echo(f"slowest member: {slowest.member}, p99 {milliseconds(slowest.p99_ms)}")
    click.echo(f"leader changes: {figures.leader_changes}")
    for note in verdict.notes:
        click.echo(f"{click.style('note:', fg='yellow')} {note}")
    if verdict.has_passed:
        click.secho("PASS", fg="green", bold=True)
        return
    click.secho("FAIL", fg="red", bold=True)
    for reason in verdict.reasons:
        click.echo(f"  {reason}")


def _member_row(found: MemberFigures) -> tuple[str, ...]:
    return (found.member, found.role or "-", *_times(found.writes), *_times(found.reads))


def _times(latencies: Latencies) -> tuple[str, str, str]:
    if not latencies.count:
        return ("-", "-", "-")
    return (milliseconds(latencies.p50_ms), milliseconds(latencies.p99_ms), milliseconds(latencies.max_ms))


def report_data(figures: Figures, verdict: Verdict) -> Data:
    slowest = figures.slowest_member
    return {
        **{
            kind: {
                "offered": found.offered,
                "done": found.latencies.count,
                "errors": found.errors,
                "per_second": round(found.per_second, 1),
                **_latency_data(found.latencies),
            }
            for kind, found in figures.kinds.items()
        },
        "members": [
            {
                "member": member.member,
                "role": member.role or None,
                "problem": member.problem or None,
                "writes": _latency_data(member.writes),
                "reads": _latency_data(member.reads),
            }
            for member in figures.members
        ],
        "slowest_member": slowest.member if slowest else None,
        "leaders": [{"term": term, "member": member} for term, member in figures.leaders],
        "leader_changes": figures.leader_changes,
        "failures": dict(figures.failures),
        "late_p99_ms": round(figures.late_p99_ms, 3),
        "passed": verdict.has_passed,
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
    }


def _latency_data(latencies: Latencies) -> Data:
    return {
        "p50_ms": round(latencies.p50_ms, 3),
        "p99_ms": round(latencies.p99_ms, 3),
        "max_ms": round(latencies.max_ms, 3),
    }
