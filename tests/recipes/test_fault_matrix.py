"""The fault matrix: every recipe, in three processes, under every fault, on a real cluster of three members.

One run for each fault has all recipes at work at once; then each recipe is judged by itself. What the
participants did is in `<tmp>/<participant>.acts`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordclient import AsyncClient, clock
from tests.recipes.faults import FAULTS
from tests.recipes.judges import JUDGES
from tests.recipes.stage import Evidence, stage
from tests.recipes.workloads.every import WORKLOADS
from tests.recipes.workloads.place import ROOT

pytestmark = pytest.mark.processes

BEFORE_S = 1.0
AFTERWARDS_S = 0.5  # the participants go on until all can do again what they do


async def run(fault: str, directory: Path) -> Evidence:
    async with stage(directory, has_links=FAULTS[fault].has_links) as here:
        await asyncio.sleep(BEFORE_S)
        await FAULTS[fault].strike(here)
        healed_s = clock.now()
        await asyncio.sleep(AFTERWARDS_S)
        nodes, left = await here.stop()
        async with AsyncClient(here.cluster.endpoints) as client:
            events = [event async for event in client.history(ROOT)]
        await here.cluster.wait_until_equal()
    return here.evidence(healed_s, nodes, left, events)


@pytest.fixture(scope="module", params=list(FAULTS))
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What was done and seen under one fault."""
    fault = request.param
    return asyncio.run(run(fault, tmp_path_factory.mktemp(fault.replace(" ", "_"))))


@pytest.mark.parametrize("recipe", list(WORKLOADS))
def test_under_this_fault_the_recipe_keeps_its_promises(evidence: Evidence, recipe: str) -> None:
    crashed = [
        f"{act.process}'s workload failed: {act.text('failure')}"
        for act in evidence.of(recipe)
        if act.has("failure")
    ]

    findings = crashed + JUDGES[recipe](evidence)

    assert not findings, "\n".join(findings)


def test_every_recipe_has_a_judge() -> None:
    assert set(JUDGES) == set(WORKLOADS)
