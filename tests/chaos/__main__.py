"""`python -m tests.chaos`: one long run. `make chaos SECONDS=600 MEMBERS=5 SEED=7 FAULTS=all`.

Rule of this file: exit code 0: all promises held; 1: one did not, and everything recorded is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos.cluster import file_system_of
from tests.chaos.judge import HISTORIES
from tests.chaos.plan import ALL_FAULTS, HECTIC, Timing, chosen_faults
from tests.chaos.run import Report, Run, Settings

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
VIOLATIONS_SHOWN = 10


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Chaos on real processes.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults go on")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="draws the plan; 0: a new one")
    parser.add_argument("--faults", default="all", help="all, or some of " + ", ".join(ALL_FAULTS))
    parser.add_argument("--hectic", action="store_true", help="shorter faults, closer to each other")
    parser.add_argument("--directory", type=Path, help="on a real disk; default: the temporary one")
    parser.add_argument("--keep", action="store_true", help="keep what was recorded in any case")
    return parser.parse_args()


def print_report(settings: Settings, report: Report) -> None:
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(report.faults.items()))
    print(
        f"\nchaos: seed {settings.seed}, {settings.members} members, {settings.seconds:g} s of faults\n"
        f"  {report.operations} operations, {report.transactions} transactions, {report.events} events\n"
        f"  {report.sessions} sessions, {report.suspensions} lost connections noticed, {report.terms} terms,"
        f" {report.snapshots} snapshots installed\n"
        f"  {report.faults.total()} faults: {faults}\n"
        f"  judged in {report.judged_in_s:.1f} s"
    )


def main() -> int:
    arguments = parse_arguments()
    try:
        faults = chosen_faults(arguments.faults)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="coordsvc-chaos-", dir=arguments.directory))
    file_system = file_system_of(directory)
    if file_system in MEMORY_FILE_SYSTEMS:
        print(f"{directory} is on {file_system}, not on a disk: give another --directory", file=sys.stderr)
        shutil.rmtree(directory)
        return 2
    seed = arguments.seed or time.time_ns() % 1_000_000
    timing = HECTIC if arguments.hectic else Timing()
    settings = Settings(directory, arguments.seconds, arguments.members, seed, faults, timing)
    print(f"chaos: seed {seed}; {directory} ({file_system})", flush=True)
    try:
        report = asyncio.run(Run(settings, lambda text: print(text, flush=True)).run())
    except (AssertionError, TimeoutError, BaseExceptionGroup):
        traceback.print_exc()
        print(f"FAILED seed={seed}; everything is kept in {directory}")
        return 1
    print_report(settings, report)
    if report.violations:
        for violation in report.violations[:VIOLATIONS_SHOWN]:
            print(f"FAILED seed={seed} {violation}")
        print(f"everything is kept in {directory}; to judge again:")
        print(f"  python -m tests.checkers --search {directory / HISTORIES}")
        return 1
    if not arguments.keep:
        shutil.rmtree(directory)
    print("  no promise was broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
