"""`python -m tests.simulation.bugs`: plant each bug, and count the seeds until the simulator finds it.

Each bug is looked for from several first seeds; the middle of the counts says how strong the simulator is
against it. The sources are copied once, and every bug is planted in a copy of that copy, so that all searches
judge the same code. Ends with 1 if a bug was not found.

Rule of this file: a bug counts as found only by a violation that the simulator names, on a seed that is green
without the bug; an exception (CRASH) counts only where the bug says so. Behind any other seed the search goes
on. A run that breaks without naming a violation is an error of the bank.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.bugs.bank import Bug, all_bugs, copy_sources, plant

FIRST_SEEDS = (1, 1_000_001, 2_000_001)
_CRASH = "CRASH"
_FAILED = re.compile(r"^FAILED seed=(\d+) invariant=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Find:
    """How many seeds one search needed, and what gave the bug away; 0 seeds: not found."""

    seeds: int
    invariant: str


@dataclass(frozen=True, slots=True)
class Verdict:
    bug: Bug
    finds: tuple[Find, ...]

    @property
    def is_found(self) -> bool:
        return all(find.seeds for find in self.finds)

    def row(self) -> str:
        """Return this bug's line of the table."""
        counts = [find.seeds for find in self.finds]
        middle = f"{statistics.median_high(counts)}" if self.is_found else "not found"
        given_away = ", ".join(dict.fromkeys(find.invariant for find in self.finds if find.seeds))
        shown = ", ".join(str(count) if count else "none" for count in counts)
        return f"| {self.bug.layer} | `{self.bug.name}` | {middle} | {shown} | {given_away} |"


class SearchError(Exception):
    """The simulator did not run, or ended in a way that it should not."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first seed of a run that failed, and what it broke."""

    seed: int
    invariant: str


def simulate(directory: Path, *arguments: str) -> Failure | None:
    """Run the simulator in the copy at `directory`; return what failed first, or None if all is green.

    Raises:
        SearchError: It ended with an error and named no violation.
    """
    environment = os.environ | {"PYTHONPATH": f"{directory}{os.pathsep}{directory / 'client'}"}
    command = [sys.executable, "-m", "tests.simulation", "--jobs", "1", *arguments]
    run = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if run.returncode == 0:
        return None
    failed = _FAILED.search(run.stdout)
    if failed is None:
        raise SearchError(f"exit code {run.returncode} and no violation named:\n{run.stdout}\n{run.stderr}")
    return Failure(int(failed[1]), failed[2])


def search(bug: Bug, planted: Path, sound: Path, first_seed: int, seeds_max: int) -> Find:
    """Run seeds one after the other in the copy at `planted` until one fails because of the bug."""
    seed, end = first_seed, first_seed + seeds_max
    while seed < end:
        failure = simulate(planted, "--stop-at-first", "--first-seed", str(seed), "--seeds", str(end - seed))
        if failure is None:
            break
        if _gives_away(failure, bug, sound):
            return Find(failure.seed - first_seed + 1, failure.invariant)
        seed = failure.seed + 1
    return Find(0, "")


def _gives_away(failure: Failure, bug: Bug, sound: Path) -> bool:
    """Whether it is the bug that failed: not a patch that cannot run, and not the code without the bug."""
    if failure.invariant == _CRASH and not bug.is_crash:
        return False
    return simulate(sound, "--seed", str(failure.seed)) is None


def judge(bug: Bug, sound: Path, first_seeds: Sequence[int], seeds_max: int) -> Verdict:
    """Plant one bug in a fresh copy of the sound sources and look for it from each of the first seeds."""
    with tempfile.TemporaryDirectory(prefix="coordsvc-bug-") as name:
        planted = Path(name)
        copy_sources(planted, sound)
        plant(bug, planted)
        try:
            finds = [search(bug, planted, sound, first, seeds_max) for first in first_seeds]
        except SearchError as error:
            raise SearchError(f"bug {bug.name}: {error}") from error
        return Verdict(bug, tuple(finds))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.bugs", description=__doc__)
    parser.add_argument("--seeds-max", type=int, default=500, help="a bug must be found within this many")
    parser.add_argument("--searches", type=int, default=len(FIRST_SEEDS), choices=range(1, 4))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", metavar="TEXT", help="only bugs whose name contains this")
    options = parser.parse_args()
    bugs = [bug for bug in all_bugs() if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug has {options.only!r} in its name")
    first_seeds = FIRST_SEEDS[: options.searches]
    print("| layer | bug | seeds needed | each search | given away by |\n|---|---|---|---|---|", flush=True)
    missed = []
    with (
        tempfile.TemporaryDirectory(prefix="coordsvc-sound-") as name,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        sound = Path(name)
        copy_sources(sound)
        for verdict in pool.map(lambda bug: judge(bug, sound, first_seeds, options.seeds_max), bugs):
            print(verdict.row(), flush=True)
            if not verdict.is_found:
                missed.append(verdict.bug.name)
    print(f"\n{len(bugs) - len(missed)} of {len(bugs)} bugs were found within {options.seeds_max} seeds")
    if missed:
        print("not found: " + ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
