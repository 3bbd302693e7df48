"""`python -m tests.simulation`: run many seeds, or one; print what was done, and what was found.

Rule of this file: options and printing. Exit code 0: everything held; 1: a violation was found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.plan import Plan, from_toml
from tests.simulation.report import Campaign, failure_line, failure_report
from tests.simulation.run import Result, plan_of, run
from tests.simulation.shrink import save, shrink
from tests.simulation.world import TraceEvent

EXIT_VIOLATION = 1


def run_seed(seed: int) -> Result:
    return run(plan_of(seed))


def main() -> int:
    options = _options()
    if options.plan is not None:
        return _one(from_toml(options.plan.read_text(encoding="utf-8")), options)
    if options.seed is not None:
        return _one(plan_of(options.seed), options)
    return _campaign(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Simulate whole clusters."
    )
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one only, with a full report")
    parser.add_argument("--plan", type=Path, help="this plan only: a file of the corpus")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--trace", type=Path, help="write every event there, as JSON lines (one seed)")
    parser.add_argument("--stop-at-first", action="store_true", help="end with the first violation")
    parser.add_argument("--shrink", action="store_true", help="make a plan that fails smaller, and save it")
    return parser.parse_args()


def _one(plan: Plan, options: argparse.Namespace) -> int:
    if options.trace is not None:
        with options.trace.open("w", encoding="utf-8") as file:

            def write(event: TraceEvent) -> None:
                file.write(json.dumps(event, default=str) + "\n")

            result = run(plan, write)
    else:
        result = run(plan)
    campaign = Campaign()
    campaign.add(result)
    print(campaign.text())
    print(f"trace digest {result.digest}")
    return _report([result], options)


def _campaign(options: argparse.Namespace) -> int:
    campaign = Campaign()
    failures = []
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for result in _results(seeds, options.jobs):
        campaign.add(result)
        if result.violation is not None:
            failures.append(result)
            print(failure_line(result), flush=True)
            if options.stop_at_first:
                break
    print(campaign.text())
    return _report(failures, options)


def _results(seeds: range, jobs: int) -> Iterator[Result]:
    """Run the seeds, in several processes if wanted; results come in order of the seeds."""
    if jobs <= 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(run_seed, seeds, chunksize=1)
        finally:
            pool.shutdown(cancel_futures=True)


def _report(results: list[Result], options: argparse.Namespace) -> int:
    failures = [result for result in results if result.violation is not None]
    if not failures:
        print("all green")
        return 0
    first = failures[0]
    if options.seed is not None or options.plan is not None:
        print(failure_line(first))
    print(failure_report(first, options.plan))
    if options.shrink:
        smaller = shrink(first, print)
        print("smaller:", failure_report(smaller, save(smaller)))
    return EXIT_VIOLATION


if __name__ == "__main__":
    sys.exit(main())
