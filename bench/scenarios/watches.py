"""Watch fan-out: one change told to a thousand watchers, and a hundred changes a second to a hundred.

Ten connections share the watchers, and the members share the connections. Measured is from just before the
change is sent to when the callback of the last watcher is called (of each watcher, for the changes at a
rate).

Each system's watchers are what its users write. ZooKeeper's fire once and are set again by reading the node,
which costs a request each; the time to the last callback does not hold it, `value_p50_ms` does: until the
last watcher has the new value, which the events of the others carry. ZooKeeper's server knows one watch a
connection and path.

Rule of this file: the same watchers, connections and changes for all.
"""

from __future__ import annotations

from typing import Final

from bench.measuring import Measurement
from bench.scenarios.programs import measured
from bench.scenarios.scenario import Scenario
from bench.systems import System

CHANGES = 60
CONNECTIONS = 10
RATE = 100
WARM_UP_S = 4.0
_CLIENTS: Final = {"coordsvc": ("sdk",), "zookeeper": ("native", "kazoo"), "etcd": ("native",)}


def fan_out(system: System, client: str, _seconds: float) -> Measurement:
    """Make changes one after the other; each waits until a thousand watchers were told of the one before."""
    arguments = [f"--connections={CONNECTIONS}", "--watchers=100", f"--changes={CHANGES}"]
    return measured(system, client, "watch-1000", "watchers", arguments)


def steady(system: System, client: str, seconds: float) -> Measurement:
    """Make a hundred changes a second, each told to a hundred watchers."""
    arguments = [f"--connections={CONNECTIONS}", "--watchers=10", f"--rate={RATE}", f"--seconds={seconds:g}"]
    return measured(system, client, "watch-rate-100", "watchers", arguments)


SCENARIOS: Final = (
    Scenario(
        "watch-1000",
        "one change to 1,000 watchers on 10 connections, until the last one is told",
        fan_out,
        _CLIENTS,
        figure="p50_ms",
        smaller_is_better=True,
        warm_up_s=WARM_UP_S,
    ),
    Scenario(
        "watch-rate-100",
        "100 changes/s to 100 watchers on 10 connections, until each one is told",
        steady,
        _CLIENTS,
        figure="p50_ms",
        smaller_is_better=True,
        warm_up_s=WARM_UP_S,
    ),
)
