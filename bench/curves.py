"""How cost grows: `python -m bench --curves members,connections,values,tree,watchers` (or `all`).

Each curve varies one thing and keeps the rest: three members, one client attached to the leader, 64
operations in flight, values of 100 bytes, 256 keys. Reads are linearizable, writes durable. Figures are
medians over the rounds; a round goes through all points of a curve, so that a noisy machine is noisy for all
of them.

Rule of this file: coordsvc alone, measured by the drivers of the comparison.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Final

from bench.drivers.running import run_driver
from bench.measuring import OTHERS_SHARE, BenchError, Measurement
from bench.scenarios.programs import measured
from bench.systems.coordsvc import Coordsvc
from bench.systems.system import System

FILE = "curves.json"
ROUNDS = 3
CLIENT = "sdk"
IN_FLIGHT = 64
VALUE_BYTES = 100
KEYS = 256
CHANGES = 40
WATCHING_CONNECTIONS_MAX = 10
_TREE_KEYS_MAX_IN_ROUNDS = 10_000  # the keys of a larger tree take long to make: it is measured once

Say = Callable[[str], None]
Measure = Callable[[System, float], Measurement]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: what is measured, at which place of it, and with how many members."""

    operation: str
    x: int
    measure: Measure
    members: int = 3
    rounds_max: int = 99


@dataclass(frozen=True, slots=True)
class Curve:
    """What is varied, and the points. A curve has no throughput if its operations rest in between."""

    name: str
    title: str
    axis: str
    points: tuple[Point, ...]
    has_throughput: bool = True


class _OneMember(Coordsvc):
    members: ClassVar[int] = 1


class _FiveMembers(Coordsvc):
    members: ClassVar[int] = 5


_KINDS: Final[Mapping[int, type[Coordsvc]]] = {1: _OneMember, 3: Coordsvc, 5: _FiveMembers}


def _load(
    operation: str,
    *,
    connections: int = 1,
    in_flight: int = IN_FLIGHT,
    value_bytes: int = VALUE_BYTES,
    keys: int = KEYS,
) -> Measure:
    arguments = ["--operation", operation, "--connections", str(connections), "--in-flight", str(in_flight)]
    arguments += ["--value-bytes", str(value_bytes), "--keys", str(keys)]
    return lambda system, seconds: run_driver(system, CLIENT, "curve", seconds, *arguments)


def _watching(watchers: int) -> Measure:
    connections = min(watchers, WATCHING_CONNECTIONS_MAX)
    arguments = [f"--connections={connections}", f"--watchers={watchers // connections}"]
    arguments += [f"--changes={CHANGES}"]
    return lambda system, _seconds: measured(system, CLIENT, "curve", "watchers", arguments)


def _members() -> Iterator[Point]:
    for members in _KINDS:
        yield Point("write, one at a time", members, _load("write", in_flight=1), members)
        yield Point("write", members, _load("write"), members)
        yield Point("read", members, _load("read"), members)


def _connections() -> Iterator[Point]:
    for connections in (1, 16, 64, 256):
        for operation in ("write", "read"):
            yield Point(operation, connections, _load(operation, connections=connections, in_flight=1))


def _values() -> Iterator[Point]:
    for value_bytes in (100, 1024, 10_240, 102_400):
        for operation in ("write", "read"):
            load = _load(operation, in_flight=16, value_bytes=value_bytes, keys=32)
            yield Point(operation, value_bytes, load)


def _tree() -> Iterator[Point]:
    for keys in (1000, 10_000, 100_000):
        rounds_max = 99 if keys <= _TREE_KEYS_MAX_IN_ROUNDS else 1
        for operation in ("write", "read"):
            yield Point(operation, keys, _load(operation, keys=keys), rounds_max=rounds_max)


def _watchers() -> Iterator[Point]:
    for watchers in (1, 10, 100, 1000):
        yield Point("change told to all", watchers, _watching(watchers))


CURVES: Final = (
    Curve("members", "members, one client of the leader", "members", tuple(_members())),
    Curve("connections", "connections, one operation in flight each", "connections", tuple(_connections())),
    Curve("values", "size of values, 16 operations in flight", "bytes of a value", tuple(_values())),
    Curve("tree", "znodes, over which the operations are spread", "znodes", tuple(_tree())),
    Curve("watchers", "watchers of the znode that changes", "watchers", tuple(_watchers()), False),
)


def chosen(names: str) -> list[Curve]:
    """Return the curves of a comma-separated list of names; `all` is every one.

    Raises:
        BenchError: There is none of that name.
    """
    known = {curve.name: curve for curve in CURVES}
    wanted = list(known) if names == "all" else [name for name in names.split(",") if name]
    for name in wanted:
        if name not in known:
            raise BenchError(f"there is no curve {name!r}; there are: all, {', '.join(known)}")
    return [known[name] for name in wanted]


# ---------------------------------------------------------------------------------------------
# Measuring


def measure(curve: Curve, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Measure all points of a curve, and return its figures: see `table`."""
    found: dict[tuple[str, int], list[Measurement]] = {}
    with ExitStack() as stack:
        systems: dict[int, System] = {}
        for members in dict.fromkeys(point.members for point in curve.points):
            systems[members] = stack.enter_context(_running(members))
            run_driver(systems[members], CLIENT, "warm-up", 1.0, "--in-flight", str(IN_FLIGHT))
        for number in range(1, rounds + 1):
            for point in curve.points:
                if number > point.rounds_max:
                    continue
                measurement = point.measure(systems[point.members], seconds)
                found.setdefault((point.operation, point.x), []).append(measurement)
                say(
                    f"{curve.name}, round {number}: {point.operation} at {point.x}:"
                    f" {measurement.per_second:,.0f}/s, p50 {measurement.p50_ms:.2f} ms"
                )
    measurements = [measurement for several in found.values() for measurement in several]
    shares = [found.extra[OTHERS_SHARE] for found in measurements if OTHERS_SHARE in found.extra]
    how = f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {rounds} rounds of {seconds:g} s"
    if shares:
        how += f"; other programs used {min(shares):.0%} to {max(shares):.0%} of the machine"
    return {
        "measured": how,
        "points": [_figures(operation, x, several) for (operation, x), several in found.items()],
    }


def _figures(operation: str, x: int, several: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "operation": operation,
        "x": x,
        "per_second": _median(found.per_second for found in several),
        "p50_ms": _median(found.p50_ms for found in several),
        "cpu_ms": _median(found.cpu_s_per_thousand for found in several),  # s per 1,000 is ms per one
    }


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(median(known), 6) if known else None


@contextmanager
def _running(members: int) -> Iterator[System]:
    below = Path("build")
    below.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"bench-curves-{members}-", dir=below) as directory:
        system = _KINDS[members]()
        try:
            system.start(Path(directory))
            yield system
        finally:
            system.close()


# ---------------------------------------------------------------------------------------------
# Keeping and telling


def load(file: Path) -> dict[str, Any]:
    """Return the curves that have been measured, by name."""
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def save(results: Mapping[str, Any], file: Path) -> None:
    """Write the curves; a reader sees the old file or the new one, never a half."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(file)


def table(curve: Curve, found: Mapping[str, Any]) -> str:
    """Return a curve as a table in Markdown: a row for each point."""
    lines = [
        f"| {curve.axis} | operation | operations/s | p50 ms | CPU s per 1,000 |",
        "|---|---|---|---|---|",
    ]
    for operation in dict.fromkeys(point["operation"] for point in found["points"]):
        points = [point for point in found["points"] if point["operation"] == operation]
        for point in sorted(points, key=lambda point: int(point["x"])):
            throughput = f"{point['per_second']:,.0f}" if curve.has_throughput else ""
            cells = (f"{point['x']:,}", operation, throughput, f"{point['p50_ms']:.2f}")
            lines.append(f"| {' | '.join(cells)} | {point['cpu_ms']:.3f} |")
    return "\n".join(lines)


def page(results: Mapping[str, Any]) -> str:
    """Return all curves, each with its heading, table, and when it was measured; in Markdown."""
    parts = []
    for curve in CURVES:
        if curve.name in results:
            found = results[curve.name]
            parts.append(f"**By {curve.title}** ({found['measured']}):\n\n{table(curve, found)}")
    return "\n\n".join(parts)
