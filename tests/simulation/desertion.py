"""At the end of some runs most voters are taken away: without a quorum nothing may go on (L7).

Rule of this file: the run was live before, and is again; afterwards everybody comes back, and agrees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.invariants import Violation
from tests.simulation.world import SECOND

if TYPE_CHECKING:
    from tests.simulation.members import SimulatedMember
    from tests.simulation.run import Simulation

_PERCENT = 25  # of the runs
_SETTLING_NS = SECOND  # what was on its way may still arrive
_ALONE_NS = 6 * SECOND
_CALLING_MS = 1_500
_WRITES = 3


def desert(simulation: Simulation) -> None:
    """Take a quorum away, call whoever is left, and bring everybody back."""
    world = simulation.world
    if world.draw_below(100, "deserted") >= _PERCENT:
        return
    gone = _take_quorum_away(simulation)
    if not gone:
        return
    world.trace("world", "deserted", *(member.name for member in gone))
    simulation.probes.hit("a quorum was gone for a while")
    world.run_until(world.now_ns + _SETTLING_NS)
    committed = max(simulation.invariants.cluster.committed, default=0)
    calls = simulation.fleet.notebook.calls
    calls_before = len(calls)
    for member in simulation.core():
        if member.is_up:
            simulation.fleet.crowd.gather(member.name, _WRITES, _CALLING_MS, is_last=True)
    world.run_until(world.now_ns + _ALONE_NS)
    if max(simulation.invariants.cluster.committed, default=0) > committed:
        raise Violation("L7", f"something was committed after {committed} without a quorum")
    for call in calls[calls_before:]:
        outcome = call.outcome
        if outcome is not None and not outcome.HasField("error"):  # type: ignore[union-attr]  # no CoordError
            raise Violation("L7", f"a call was answered without a quorum: {call.request} by {outcome}")
    for member in gone:
        member.is_held_down = False
        member.start()
    simulation.agree()


def _take_quorum_away(simulation: Simulation) -> list[SimulatedMember]:
    """Crash voters, by the dice, until no majority of them is left."""
    group = simulation.operators.halves()[0]
    up = [member for member in simulation.core() if member.is_up and member.name in group]
    up.sort(key=lambda member: simulation.world.draw("deserter", member.name))
    left = len(group) // 2
    if len(group) % 2 == 0:
        left -= 1
    gone = up[left:] if left else []
    for member in gone:
        member.is_held_down = True
        member.crash(loses_power=False)
    return gone
