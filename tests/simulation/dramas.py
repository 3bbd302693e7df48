"""Faults that come together, because apart they hurt nobody: what befalls leaders and their successors.

Most mistakes of consensus need several things in a row: entries that one leader alone has, another that is
elected without them, and a third that meets both. Independent faults come to that once in many hundred runs.

Rule of this file: it only puts faults together that `faults.py` knows; every decision is a draw by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.clients.workload import draw_workload
from tests.simulation.plan import Fault, Plan
from tests.simulation.world import World

_COUNT_MAX = 3


def draw_dramas(world: World, plan: Plan) -> list[Fault]:
    """Return the faults of all dramas of a seed; most seeds have some."""
    if not world.chance(0.7, "dramas"):
        return []
    faults: list[Fault] = []
    if world.chance(0.3, "returns"):
        faults += _Drama(world, plan, _COUNT_MAX).returns()
    for number in range(1 + world.draw_below(_COUNT_MAX, "drama count")):
        drama = _Drama(world, plan, number)
        kind = world.draw_below(8, "drama", number)
        if kind <= 1:
            faults += drama.relay()
        elif kind == 2:
            faults += drama.sleep()
        elif kind == 3:
            faults += drama.long_absence()
        elif kind == 4:
            faults += drama.torn_leaders()
        elif kind <= 6:
            faults += drama.reform()
        else:
            faults += drama.late_word()
    return faults


@dataclass(slots=True)
class _Drama:
    world: World
    plan: Plan
    number: int

    @property
    def election_ms(self) -> int:
        cluster = self.plan.cluster
        return cluster.election_ticks * cluster.tick_ms

    def _below(self, bound: int, what: str, *names: object) -> int:
        return self.world.draw_below(bound, f"drama {what}", self.number, *names)

    def _elections(self, low_percent: int, high_percent: int, what: str, *names: object) -> int:
        """Draw a time, in milliseconds, as a part of the election timeout."""
        percent = low_percent + self._below(high_percent - low_percent + 1, what, *names)
        return max(1, self.election_ms * percent // 100)

    def _start_ms(self) -> int:
        """Early enough for the drama to happen in the safety phase, late enough for a first leader."""
        first_ms = min(2 * self.election_ms, self.plan.safety_ms // 4)
        return first_ms + self._below(max(1, self.plan.safety_ms - first_ms - 4 * self.election_ms), "start")

    def _crowd(self, at_ms: int, duration_ms: int, *names: object) -> Fault:
        return Fault(
            max(0, at_ms - self._below(30, "crowd", *names)),
            "crowd",
            "leader",
            duration_ms=duration_ms,
            amount=self._below(9, "crowd writes", *names),
        )

    def relay(self) -> list[Fault]:
        """One leader after the other is cut off; each comes back about when the next one goes."""
        at_ms = self._start_ms()
        faults = []
        for stage in range(2 + self._below(4, "stages")):
            duration_ms = self._elections(120, 400, "cut", stage)
            faults.append(self._crowd(at_ms, duration_ms, stage))
            amount = self._below(6, "direction", stage)
            faults.append(Fault(at_ms, "cut_leader", "leader", duration_ms=duration_ms, amount=amount))
            at_ms += max(1, duration_ms * (80 + self._below(40, "next", stage)) // 100)
        return faults

    def sleep(self) -> list[Fault]:
        """A leader stands still, its clock with it, and wakes up among people who wait for its answer."""
        at_ms = self._start_ms()
        sleeps_ms = self._elections(100, 400, "sleep")
        cut_ms = sleeps_ms + self._elections(0, 150, "alone")
        return [
            self._crowd(at_ms, cut_ms, 0),
            Fault(at_ms, "pause", "leader", duration_ms=sleeps_ms, is_total=self._below(4, "clock") > 0),
            Fault(at_ms, "cut_leader", "leader", duration_ms=cut_ms),
            self._crowd(at_ms + self._elections(100, 250, "later"), cut_ms, 1),
        ]

    def returns(self) -> list[Fault]:
        """A leader hands over, and is in office again after about as long as a session may be silent."""
        timeout_ms = draw_workload(self.world).session_timeout_ms
        at_ms = self._start_ms()
        faults = []
        for stage in range(6):
            faults.append(
                Fault(at_ms, "transfer", "leader", duration_ms=1 + self._below(2, "to", stage // 2))
            )
            at_ms += max(1, timeout_ms * (60 + self._below(60, "office", stage)) // 100)
        return [fault for fault in faults if fault.at_ms < self.plan.safety_ms]

    def long_absence(self) -> list[Fault]:
        """While a leader with entries of its own is away, the others change leaders once more."""
        at_ms = self._start_ms()
        away_ms = self._elections(500, 800, "away")
        faults = [
            self._crowd(at_ms, 2 * self.election_ms, 0),
            Fault(at_ms, "cut_leader", "leader", duration_ms=away_ms),
        ]
        for change in range(1 + self._below(2, "changes")):
            then_ms = at_ms + self._elections(200, 550, "then", change)
            faults.append(self._crowd(then_ms, 2 * self.election_ms, 1 + change))
            if self._below(2, "how", change):
                gone_ms = self._elections(20, 250, "gone", change)
                is_total = self._below(2, "total", change) == 0
                faults.append(Fault(then_ms, "crash", "leader", duration_ms=gone_ms, is_total=is_total))
            else:
                target = self._below(60, "target", change)
                faults.append(Fault(then_ms, "transfer", "leader", duration_ms=target))
        return faults

    def torn_leaders(self) -> list[Fault]:
        """One leader after the other crashes in the middle of its writes, and is soon back."""
        at_ms = self._start_ms()
        faults = []
        for stage in range(2 + self._below(3, "stages")):
            faults.append(self._crowd(at_ms, self.election_ms, stage))
            faults.append(
                Fault(
                    at_ms,
                    "crash",
                    "leader",
                    duration_ms=self._elections(10, 250, "back", stage),
                    amount=1 + self._below(8, "after", stage),
                    is_total=self._below(2, "total", stage) == 0,
                )
            )
            at_ms += self._elections(100, 350, "next", stage)
        return faults

    def reform(self) -> list[Fault]:
        """The membership is changed, and each change costs a leader; its successors are asked at once."""
        names = self.plan.voters() + self.plan.learners()
        at_ms = self._start_ms()
        faults = [Fault(at_ms // 2, "join")] if self._below(2, "join") else []
        for stage in range(2 + self._below(3, "stages")):
            how = self._below(4, "how", stage)
            if how:
                faults.append(
                    Fault(
                        at_ms,
                        "crash_at_change" if how == 1 else "cut_leader_at_change",
                        duration_ms=self._elections(50, 500, "costs", stage),
                        amount=1 + self._below(5, "after", stage)
                        if how == 1
                        else self._below(4, "way", stage),
                        is_total=self._below(2, "total", stage) == 0,
                    )
                )
            for change in range(1 + self._below(2, "changes", stage)):
                kinds = ("promote", "promote", "replace", "replace", "remove", "demote_leader", "join")
                faults.append(
                    Fault(
                        at_ms + self._below(20, "soon", stage, change),
                        kinds[self._below(len(kinds), "kind", stage, change)],
                        names[self._below(len(names), "who", stage, change)],
                        amount=self._below(0xFFFF, "whom", stage, change),
                        is_total=self._below(2, "force", stage, change) == 0,
                    )
                )
            at_ms += self._elections(10, 400, "next", stage)
        return faults

    def late_word(self) -> list[Fault]:
        """What a member's clients say reaches the leader only when it is ending their sessions, slowly."""
        timeout_ms = min(draw_workload(self.world).session_timeout_ms, self.plan.safety_ms // 2)
        names = self.plan.voters() + self.plan.learners()
        alone = names[self._below(len(names), "alone")]
        others = [name for name in names if name != alone]
        slow = " ".join(f"{one}>{other}" for one in others for other in others if one != other)
        cut = " ".join(f"{alone}>{other} {other}>{alone}" for other in others)
        faults = []
        at_ms = self._below(max(1, self.plan.safety_ms - timeout_ms), "start")
        for repetition in range(2):
            cut_ms = max(1, timeout_ms * (60 + self._below(70, "late", repetition)) // 100)
            clog_ms = max(1, self.election_ms * (10 + self._below(35, "slow", repetition)) // 100)
            if slow:
                faults.append(Fault(at_ms, "clog", duration_ms=2 * cut_ms, amount=clog_ms, pairs=slow))
            if cut:
                faults.append(Fault(at_ms, "cut", duration_ms=cut_ms, pairs=cut))
            at_ms += 2 * cut_ms
        return faults
