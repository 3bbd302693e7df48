"""`make bench` and `make bench-peers`: measures coordsvc, alone or beside etcd and ZooKeeper.

    python -m bench --systems coordsvc,etcd,zookeeper --scenarios all --rounds 3 --seconds 3
    python -m bench --breakdown                      where the time of one write goes; coordsvc alone
    python -m bench --curves all                     how cost grows; coordsvc alone

Rule of this file: the command line only.
"""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench import alone, comparing, performance_page, plotting, reporting
from bench.machine import machine
from bench.measuring import BenchError
from bench.scenarios import Scenario, all_scenarios, chosen
from bench.systems import SYSTEMS

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 if something failed, 2 for wrong usage, 130 after Ctrl-C."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that no server outlives us
    if options.list:
        for scenario in all_scenarios().values():
            print(f"{scenario.name:24} {scenario.title}")
        return 0
    try:
        if options.breakdown or options.curves:
            code = alone.run(options, machine(), _say)
            performance_page.update_from(options.out)
            return code
        scenarios = chosen(options.scenarios)
        systems = _installed(options.systems)
        options.out.mkdir(parents=True, exist_ok=True)
        code = _run(scenarios, systems, options)
        performance_page.update_from(options.out)
        return code
    except BenchError as error:
        _say(str(error))
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated; default: %(default)s")
    parser.add_argument("--scenarios", default="throughput", help="names, or all; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each measurement; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="default: %(default)s")
    parser.add_argument("--breakdown", action="store_true", help="of one write, instead of scenarios")
    parser.add_argument("--curves", default="", help="names, or all, instead of scenarios")
    parser.add_argument("--list", action="store_true", help="print the scenarios, and end")
    return parser.parse_args(arguments)


def _installed(names: str) -> list[str]:
    """Return those of the systems that can be started; says what is missing of the others."""
    found = []
    for name in filter(None, names.split(",")):
        if name not in SYSTEMS:
            raise BenchError(f"there is no system {name!r}; there are: {', '.join(SYSTEMS)}")
        kind = SYSTEMS[name]
        if missing := kind.missing():
            _say(f"{name} is left out, {missing} not found: apt-get install {kind.packages}")
        else:
            found.append(name)
    return found


def _run(scenarios: Sequence[Scenario], systems: Sequence[str], options: argparse.Namespace) -> int:
    file = options.out / "results.json"
    results = reporting.load(file, machine())
    results.versions |= {name: SYSTEMS[name].version() for name in systems}
    order = list(all_scenarios())
    done, code = [], 0
    began_s = time.monotonic()
    try:
        for scenario in scenarios:
            scenario_began_s = time.monotonic()
            outcome = comparing.compare(scenario, systems, options.rounds, options.seconds, _say)
            _say(f"{scenario.name} took {time.monotonic() - scenario_began_s:.0f} s")
            code = code or int(bool(outcome.failures))
            if outcome.measurements:
                rounds = max(found.round for found in outcome.measurements)
                how = f"{_today()}, {rounds} rounds of {options.seconds:g} s"
                results.put(outcome, how + comparing.noise_of(outcome) + comparing.repeats_of(outcome))
                done.append(scenario.name)
                reporting.save(results, file)
                (options.out / "README.md").write_text(reporting.page(results, order), encoding="utf-8")
    except KeyboardInterrupt:
        _say("interrupted; the scenarios that were complete are kept")
        code = INTERRUPTED
    measured = {name: results.outcomes[name] for name in done}
    print(f"three members and their client on {results.machine}; medians over the rounds\n")
    print(reporting.table(measured.values()))
    if len(systems) > 1:
        print(f"\n{reporting.goals_table(measured)}")
        plotting.plot(results.in_order(order), options.out / "comparison.png", results.machine)
    _say(f"{len(done)} scenarios in {time.monotonic() - began_s:.0f} s; everything is in {options.out}")
    return code


def _today() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
