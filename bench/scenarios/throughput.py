"""Durable writes and linearizable reads, one at a time and many in flight; transactions; large values."""

from __future__ import annotations

from bench.scenarios.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = ()
