"""What one measurement says, and how latencies become percentiles.

Rule of this file: values only. It starts nothing and reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

NOT_MEASURED = math.nan
OTHERS_SHARE = "others_share"  # in `extra`: what part of all cores other programs used meanwhile


class BenchError(Exception):
    """A measurement could not be made; the message says of what, why, and what to do."""


class FinalError(BenchError):
    """Trying again would fail in the same way: something is not installed, or was tried often enough."""


@dataclass(slots=True)
class Measurement:
    """One system, driven by one client, in one scenario, once.

    `operations` were acknowledged in `seconds`; a latency is from the call to the acknowledgement.
    `cpu_s_per_thousand` is the CPU time of all server processes together per thousand operations, without the
    client's. `peak_memory_mib` is the largest resident size that any one member had. What a scenario has not
    measured is NaN. `extra` holds figures that only this scenario has, by name with the unit last.
    """

    system: str
    client: str
    scenario: str
    round: int = 0
    operations: int = 0
    seconds: float = NOT_MEASURED
    p50_ms: float = NOT_MEASURED
    p99_ms: float = NOT_MEASURED
    cpu_s_per_thousand: float = NOT_MEASURED
    peak_memory_mib: float = NOT_MEASURED
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Operations per second; NaN if the scenario counts none."""
        if not self.operations or not self.seconds > 0:
            return NOT_MEASURED
        return self.operations / self.seconds


def percentile(sorted_values: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least `fraction` of all values do not exceed (nearest rank).

    Raises:
        BenchError: There is no value.
    """
    if not sorted_values:
        raise BenchError("nothing was measured, so there is no percentile")
    rank = math.ceil(fraction * len(sorted_values))
    return sorted_values[min(len(sorted_values), max(1, rank)) - 1]


def latency_measurement(
    system: str, client: str, scenario: str, latencies_s: Sequence[float], seconds: float
) -> Measurement:
    """Make the measurement of a scenario that timed each operation, in any order, within `seconds`."""
    ordered = sorted(latencies_s)
    return Measurement(
        system,
        client,
        scenario,
        operations=len(ordered),
        seconds=seconds,
        p50_ms=percentile(ordered, 0.50) * 1000,
        p99_ms=percentile(ordered, 0.99) * 1000,
    )
