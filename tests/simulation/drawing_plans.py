"""Drawing a plan from a seed: which classes of faults it has, how large the cluster, how odd its settings.

Each seed first draws which classes of faults are on at all (swarm testing: leaving features out finds more
than mixing everything into every run), then magnitudes on a logarithmic scale.

Rule of this file: every decision is a draw by its own name, so that a new class changes no other one.
"""

from __future__ import annotations

from tests.simulation.dramas import draw_dramas
from tests.simulation.plan import SPARE_NAMES, ClusterPlan, Fault, NetworkPlan, Plan
from tests.simulation.world import World

# Percent of the seeds that have the class at all.
_CLASSES: dict[str, int] = {
    "crash": 60,
    "crash_leader": 35,
    "stop": 20,
    "pause": 30,
    "isolate": 35,
    "cut_leader": 40,
    "halves": 20,
    "ring": 12,
    "bridge": 12,
    "scatter": 15,
    "one_way": 20,
    "clog": 20,
    "reset": 30,
    "hang_up": 20,
    "client_cut": 25,
    "client_reset": 30,
    "disk_slow": 20,
    "disk_stall": 12,
    "disk_error": 12,
    "install_crash": 25,
    "disk_full": 8,
    "wall_jump": 20,
    "late_ticks": 15,
    "transfer": 25,
}


def draw_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    world = World(seed)
    plan = Plan(seed)
    plan.safety_ms = world.draw_log(4_000, 20_000, "safety")
    _draw_cluster(world, plan.cluster)
    _draw_network(world, plan.network)
    if world.chance(0.3, "slow disks"):
        plan.disk.sync_us = world.draw_log(300, 40_000, "sync")
    if world.chance(0.4, "drift"):
        plan.clock.drift_ppm = world.draw_log(100, 60_000, "drift")
    plan.faults = _draw_faults(world, plan)
    return plan


def _draw_cluster(world: World, cluster: ClusterPlan) -> None:
    cluster.voters = (1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5)[world.draw_below(12, "voters")]
    cluster.learners = (0, 0, 0, 1, 1, 2)[world.draw_below(6, "learners")]
    cluster.tick_ms = (50, 100, 100)[world.draw_below(3, "tick")]
    cluster.election_ticks = (5, 10, 10, 20)[world.draw_below(4, "election")]
    cluster.heartbeat_ticks = (1, 1, 1, 2)[world.draw_below(4, "heartbeat")]

    def extreme(percent: int, name: str, value: int) -> None:
        if world.draw_below(100, "extreme", name) < percent:
            setattr(cluster, name, value)

    cluster.pre_vote = not world.chance(0.12, "without pre-vote")
    cluster.check_quorum = not world.chance(0.12, "without check of the quorum")
    extreme(35, "append_bytes_max", 1)
    extreme(15, "inflight_messages_max", 1)
    extreme(10, "inflight_messages_max", 2)
    extreme(15, "committed_bytes_max", 1)
    extreme(10, "uncommitted_bytes_max", 2_000)
    extreme(20, "cached_bytes_max", 1)
    extreme(15, "entry_bytes_max", 1)
    extreme(30, "apply_slice", 1)
    extreme(10, "apply_slice", 3)
    extreme(30, "history_changes", world.draw_log(2, 60, "history"))
    extreme(50, "chunk_bytes", world.draw_log(60, 1_000, "chunk"))
    extreme(35, "chunk_window", 1)
    extreme(25, "disk_stall_ms", world.draw_log(100, 2_000, "stall after"))
    extreme(15, "results_per_session", world.draw_log(2, 20, "results"))
    extreme(15, "inflight_per_session_max", world.draw_log(50, 200, "inflight"))
    extreme(15, "watches_per_session_max", 2)
    extreme(30, "catch_up_changes", 1)
    extreme(30, "cache_bytes", 1)
    extreme(35, "frame_items_max", 1 + world.draw_below(2, "items"))
    extreme(20, "pump_delay_us", world.draw_log(50, 20_000, "pump"))
    extreme(20, "session_timeout_ms_min", 300)
    cluster.digest_interval = world.draw_log(1, 64, "digest")
    if world.chance(0.55, "trim"):
        cluster.log_trim_entries = world.draw_log(2, 100, "trim")
        cluster.log_keep_entries = min(cluster.log_trim_entries, world.draw_log(1, 50, "keep") - 1)


def _draw_network(world: World, network: NetworkPlan) -> None:
    network.latency_ns_min = world.draw_log(20_000, 2_000_000, "latency min")
    network.latency_ns_mean = world.draw_log(100_000, 15_000_000, "latency mean")
    network.stall_timeout_ms = world.draw_log(1_000, 10_000, "stall")
    if world.chance(0.1, "small queues"):
        network.queue_batches_max = world.draw_log(
            20, 100, "queue"
        )  # more than the chunks of a snapshot in flight
    if world.chance(0.4, "raw"):
        network.is_raw = True
        if world.chance(0.7, "loss"):
            network.loss = world.draw_log(5, 300, "loss rate") / 1000
        if world.chance(0.6, "repeat"):
            network.repeat = world.draw_log(5, 300, "repeat rate") / 1000
        if world.chance(0.6, "reorder"):
            network.reorder = world.draw_log(5, 400, "reorder rate") / 1000
            network.reorder_ns_max = world.draw_log(2_000_000, 1_000_000_000, "reorder by")


# -------------------------------------------------------------------------------------------------
# Faults


def _draw_faults(world: World, plan: Plan) -> list[Fault]:
    intensity = world.draw_log(15, 200, "intensity")
    faults: list[Fault] = []
    for kind, percent in _CLASSES.items():
        if world.draw_below(100, "class", kind) >= percent:
            continue
        count = 1 + world.draw_below(max(1, plan.safety_ms * intensity // 250_000), "count", kind)
        for number in range(count):
            fault = _draw_fault(world, plan, kind, number)
            if fault is not None:
                faults.append(fault)
    faults += _draw_membership(world, plan)
    faults += _draw_reuse(world, plan)
    faults += draw_dramas(world, plan)
    faults.sort(key=lambda fault: fault.at_ms)
    return faults


def _draw_fault(world: World, plan: Plan, kind: str, number: int) -> Fault | None:
    names = plan.voters() + plan.learners()

    def below(bound: int, what: str) -> int:
        return world.draw_below(bound, what, kind, number)

    member = names[below(len(names), "who")]
    if below(3, "leader") == 0:
        member = "leader"
    fault = Fault(
        at_ms=below(plan.safety_ms, "at"),
        kind=kind,
        member=member,
        duration_ms=world.draw_log(20, 5_000, "duration", kind, number),
        is_total=below(2, "total") == 0,
    )
    if kind == "crash_leader":
        fault.kind, fault.member = "crash", "leader"
    if fault.kind == "crash":
        fault.amount = below(10, "armed") and 1 + below(
            12, "after"
        )  # 9 of 10 crash while a write is under way
    elif kind in ("isolate", "halves", "ring", "bridge", "scatter", "one_way", "clog"):
        fault.member = ""
        fault.pairs = " ".join(f"{a}>{b}" for a, b in _draw_pairs(world, kind, number, names))
        if not fault.pairs:
            return None
        if kind == "clog":
            fault.amount = world.draw_log(5, 2_000, "clog by", number)
        else:
            fault.kind = "cut"
    elif kind == "cut_leader":
        fault.member = "leader"
        fault.amount = below(4, "direction")
        fault.duration_ms = max(fault.duration_ms, 2 * plan.cluster.election_ticks * plan.cluster.tick_ms)
    elif kind == "install_crash":
        fault.member = names[below(len(names), "who")]
        fault.duration_ms = plan.safety_ms
    elif kind in ("disk_slow", "disk_stall"):
        fault.amount = world.draw_log(5, 500, "slower", kind, number)
    elif kind == "disk_error":
        fault.amount = world.draw_log(1, 60, "error after", number)
    elif kind == "wall_jump":
        by_ms = world.draw_log(10, 10_000_000, "jump", number)
        fault.amount = by_ms if fault.is_total else -by_ms
    return fault


def _draw_pairs(world: World, kind: str, number: int, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Draw which paths are cut (or slow): both ways, or one way at random."""
    order = sorted(names, key=lambda name: world.draw("order", kind, number, name))
    size = len(order)
    everybody = [(a, b) for a in names for b in names if a != b]
    if kind in ("isolate", "clog"):
        groups = [order[:1], order[1:]]
    elif kind == "halves":
        middle = 1 + world.draw_below(max(1, size - 1), "middle", number)
        groups = [order[:middle], order[middle:]]
    elif kind == "scatter":
        groups = [[], [], []]
        for name in order:
            groups[world.draw_below(3, "group", number, name)].append(name)
    elif kind == "ring":
        # Everybody sees a majority, and nobody sees the same one.
        reach = size // 4 + 1 if size > 3 else 1
        place = {name: position for position, name in enumerate(order)}
        near = {
            (a, b)
            for a, b in everybody
            if min((place[a] - place[b]) % size, (place[b] - place[a]) % size) <= reach
        }
        return [pair for pair in everybody if pair not in near]
    elif kind == "bridge":
        # Two halves that see each other only through one member.
        rest = order[1:]
        groups = [rest[: len(rest) // 2], rest[len(rest) // 2 :]]
    else:
        source, target = (
            everybody[world.draw_below(len(everybody), "path", number)] if everybody else ("", "")
        )
        return [(source, target)] if source else []
    pairs = [(a, b) for left in groups for a in left for right in groups if right is not left for b in right]
    direction = world.draw_below(3, "direction", kind, number)
    if direction == 0 and kind in ("isolate", "halves"):
        first = groups[0]
        into = world.draw_below(2, "into", kind, number) == 0
        pairs = [(a, b) for a, b in pairs if (b in first) == into]
    return pairs


def _draw_membership(world: World, plan: Plan) -> list[Fault]:
    """Draw changes of the membership: members that join, are promoted, leave, or are replaced."""
    if not world.chance(0.4, "membership"):
        return []
    count = 1 + world.draw_below(6, "membership count")
    kinds = ("join", "join", "promote", "promote", "remove", "replace", "replace", "wipe", "demote_leader")
    names = plan.voters() + plan.learners() + SPARE_NAMES
    faults = []
    for number in range(count):
        change = Fault(
            at_ms=world.draw_below(plan.safety_ms, "membership at", number),
            kind=kinds[world.draw_below(len(kinds), "membership kind", number)],
            member=names[world.draw_below(len(names), "membership who", number)],
            amount=world.draw("membership other", number) & 0xFFFF,
            is_total=world.chance(0.3, "membership force", number),
        )
        faults += [change, *_draw_company(world, plan, change, number)]
    return faults


def _draw_reuse(world: World, plan: Plan) -> list[Fault]:
    """Early, since it takes three changes and then several elections."""
    if plan.cluster.voters < 3 or not world.chance(0.08, "use again"):
        return []
    election_ms = plan.cluster.election_ticks * plan.cluster.tick_ms
    return [
        Fault(
            at_ms=world.draw_below(max(1, plan.safety_ms // 2), "use again at"),
            kind="use_again",
            duration_ms=election_ms * (4 + world.draw_below(12, "use again for")),
            amount=world.draw_below(12, "use again who"),
            is_total=world.chance(0.5, "use again total"),
        )
    ]


def _draw_company(world: World, plan: Plan, change: Fault, number: int) -> list[Fault]:
    """The leader is often lost just when it changes the membership: that is when it hurts."""
    election_ms = plan.cluster.election_ticks * plan.cluster.tick_ms
    company = world.draw_below(10, "company", number)
    if company < 2:  # It proposes what only it will ever know.
        at_ms = max(0, change.at_ms - world.draw_below(40, "company before", number))
        return [Fault(at_ms, "cut_leader", "leader", duration_ms=3 * election_ms)]
    if company < 5:
        at_ms = change.at_ms + world.draw_log(1, 25, "company after", number)
        is_total = world.chance(0.5, "company total", number)
        return [Fault(at_ms, "crash", "leader", duration_ms=election_ms, is_total=is_total)]
    return []
