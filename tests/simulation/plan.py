"""What one run is made of, as data: the cluster, the network, the disks, and every fault that will happen.

A run is its seed and its plan. The plan is drawn from the seed, kept in the corpus as TOML, and made smaller
by shrinking; the same plan and seed give the same run.

Rule of this file: values only, numbers, booleans and strings. `drawing_plans.py` draws them.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from typing import Any

VOTER_NAMES = ("a", "b", "c", "d", "e")
LEARNER_NAMES = ("x", "y")
SPARE_NAMES = ("n", "o", "p", "q")  # members that may join later


@dataclass(slots=True)
class ClusterPlan:
    """The members and their settings; many of them extreme."""

    voters: int = 3
    learners: int = 0
    tick_ms: int = 100
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    committed_bytes_max: int = 4 << 20
    uncommitted_bytes_max: int = 64 << 20
    cached_bytes_max: int = 8 << 20
    entry_bytes_max: int = 512 << 10
    apply_slice: int = 64  # entries that are applied in one go
    log_trim_entries: int = 1000
    log_keep_entries: int = 200
    history_changes: int = 100_000
    chunk_bytes: int = 64 << 10
    chunk_window: int = 8
    digest_interval: int = 16
    results_per_session: int = 1024
    inflight_per_session_max: int = 1024
    session_timeout_ms_min: int = 1000
    watches_per_session_max: int = 10_000
    catch_up_changes: int = 1000
    cache_bytes: int = 1 << 20  # of the tree
    pump_delay_us: int = 50
    disk_stall_ms: int = 3000
    frame_items_max: int = 0  # in one frame to a client; 0: whatever is there


@dataclass(slots=True)
class NetworkPlan:
    """Latencies and losses. `is_raw`: frames of consensus are lost, repeated and reordered one by one."""

    latency_ns_min: int = 100_000
    latency_ns_mean: int = 400_000
    stall_timeout_ms: int = 4000
    queue_batches_max: int = 10_000
    is_raw: bool = False
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    reorder_ns_max: int = 50_000_000


@dataclass(slots=True)
class DiskPlan:
    """How long the storage thread takes for one operation."""

    write_us: int = 50
    sync_us: int = 300


@dataclass(slots=True)
class ClockPlan:
    """Each member's clock runs at 1 +- up to this."""

    drift_ppm: int = 0


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong, for a while.

    Attributes:
        kind: See `faults.py`.
        member: Whom it hits; "leader": whoever leads then; empty where `pairs` says it.
        pairs: Directed paths as "a>b b>a".
        amount: Depends on the kind.
        is_total: Depends on the kind (with the power, with the clock, ...).
    """

    at_ms: int
    kind: str
    member: str = ""
    duration_ms: int = 0
    amount: int = 0
    is_total: bool = False
    pairs: str = ""


@dataclass(slots=True)
class Plan:
    """Everything about one run, beside the code."""

    seed: int
    safety_ms: int = 10_000
    cluster: ClusterPlan = field(default_factory=ClusterPlan)
    network: NetworkPlan = field(default_factory=NetworkPlan)
    disk: DiskPlan = field(default_factory=DiskPlan)
    clock: ClockPlan = field(default_factory=ClockPlan)
    workload: dict[str, Any] = field(default_factory=dict)  # fields of `clients.workload.Workload`
    faults: list[Fault] = field(default_factory=list)

    def voters(self) -> tuple[str, ...]:
        return VOTER_NAMES[: self.cluster.voters]

    def learners(self) -> tuple[str, ...]:
        return LEARNER_NAMES[: self.cluster.learners]


_SECTIONS: dict[str, type] = {
    "cluster": ClusterPlan,
    "network": NetworkPlan,
    "disk": DiskPlan,
    "clock": ClockPlan,
}


def to_toml(plan: Plan, comment: str = "") -> str:
    """Write a plan down. Values that are the default are left out."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"seed = {plan.seed}", f"safety_ms = {plan.safety_ms}"]
    for name, kind in _SECTIONS.items():
        lines += ["", f"[{name}]", *_changed(getattr(plan, name), kind())]
    lines += ["", "[workload]", *(f"{key} = {_value(value)}" for key, value in plan.workload.items())]
    for fault in plan.faults:
        lines += ["", "[[faults]]", f"at_ms = {fault.at_ms}", f"kind = {_value(fault.kind)}"]
        lines += [line for line in _changed(fault, Fault(0, "")) if not line.startswith(("at_ms", "kind"))]
    return "\n".join(lines) + "\n"


def from_toml(text: str) -> Plan:
    """Read a plan."""
    data = tomllib.loads(text)
    plan = Plan(data["seed"], data["safety_ms"])
    for name, kind in _SECTIONS.items():
        setattr(plan, name, kind(**data.get(name, {})))
    plan.workload = data.get("workload", {})
    plan.faults = [Fault(**fault) for fault in data.get("faults", [])]
    return plan


def copy_of(plan: Plan) -> Plan:
    """Return a plan that can be changed without changing this one."""
    return dataclasses.replace(
        plan,
        cluster=dataclasses.replace(plan.cluster),
        network=dataclasses.replace(plan.network),
        disk=dataclasses.replace(plan.disk),
        clock=dataclasses.replace(plan.clock),
        workload=dict(plan.workload),
        faults=[dataclasses.replace(fault) for fault in plan.faults],
    )


def _changed(values: Any, defaults: Any) -> list[str]:
    lines = []
    for attribute in dataclasses.fields(values):
        value = getattr(values, attribute.name)
        if value != getattr(defaults, attribute.name):
            lines.append(f"{attribute.name} = {_value(value)}")
    return lines


def _value(value: object) -> str:
    """TOML's numbers, booleans and strings are JSON's."""
    return json.dumps(value)
