"""The plan of a run: which fault begins when and lasts how long, drawn from the seed.

Two lanes go on side by side: faults of members and faults of links. A fault's target ("the leader", "some
majority") is settled when it begins, by dice that the plan gives it.

Rule of this file: data only, and the same seed draws the same plan.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

MEMBER_FAULTS = (
    "kill-one",
    "kill-leader",
    "kill-majority",
    "kill-all",
    "power-loss-one",
    "power-loss-all",
    "pause-leader",
    "pause-follower",
    "pause-client",
    "kill-client",
    "restart-one",
    "disk-full",
    "write-fails",
    "sync-fails",
    "clock-jumps",
    "transfer-leader",
)
LINK_FAULTS = (
    "isolate-leader",
    "isolate-one",
    "one-way",
    "deaf-leader",
    "mute-leader",
    "partial",
    "halves",
    "majority-ring",
    "bridge",
    "slow",
    "sliced",
    "broken",
    "half-open",
    "reset-all",
    "clients-cut",
    "clients-broken",
)
MEMBERSHIP_FAULTS = ("add-learner", "add-voter", "replace-member", "lost-disk")
LANES = (MEMBER_FAULTS + MEMBERSHIP_FAULTS, LINK_FAULTS)
ALL_FAULTS = tuple(fault for lane in LANES for fault in lane)

BRIEF = frozenset({"reset-all", "transfer-leader", "broken", "clients-broken"})  # over at once


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take; in seconds."""

    gap: tuple[float, float] = (0.5, 4.0)
    lasts: tuple[float, float] = (1.0, 9.0)


HECTIC = Timing(gap=(0.2, 1.0), lasts=(0.6, 4.5))


@dataclass(frozen=True, slots=True)
class PlannedFault:
    at_s: float
    lasts_s: float
    kind: str
    dice: int

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.kind:16} for {self.lasts_s:4.1f} s"


def chosen_faults(names: str) -> tuple[str, ...]:
    """Return the faults that are named, such as "kill-one,halves"; "all" names every one.

    Raises:
        ValueError: There is no such fault.
    """
    if names == "all":
        return ALL_FAULTS
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = [name for name in chosen if name not in ALL_FAULTS]
    if unknown or not chosen:
        raise ValueError(
            f"no fault {', '.join(unknown) or names!r}; there are {', '.join(ALL_FAULTS)}, or all"
        )
    return chosen


def draw_plan(
    seed: int, seconds: float, faults: Iterable[str] = ALL_FAULTS, timing: Timing | None = None
) -> list[list[PlannedFault]]:
    """Return the faults of each lane, in order. Every kind comes once before any comes again."""
    timing = timing or Timing()
    wanted = set(faults)
    plan = []
    for number, lane in enumerate(LANES):
        dice = random.Random(f"{seed} lane {number}")
        plan.append(_draw_lane(dice, seconds, [kind for kind in lane if kind in wanted], timing))
    return plan


def _draw_lane(dice: random.Random, seconds: float, kinds: list[str], timing: Timing) -> list[PlannedFault]:
    lane: list[PlannedFault] = []
    bag: list[str] = []
    at_s = dice.uniform(*timing.gap)
    while kinds:
        if not bag:
            bag = dice.sample(kinds, len(kinds))
        kind = bag.pop()
        lasts_s = 0.0 if kind in BRIEF else dice.uniform(*timing.lasts)
        if at_s + lasts_s > seconds:
            break
        lane.append(PlannedFault(at_s, lasts_s, kind, dice.getrandbits(32)))
        at_s += lasts_s + dice.uniform(*timing.gap)
    return lane
