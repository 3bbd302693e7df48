"""All workloads, by the name of their recipe.

Rule of this file: a recipe that is not in this table is not in the fault matrix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.recipes.workloads import barriers, commits, groups, locks, values, work_lists
from tests.recipes.workloads.place import Place

Workload = Callable[[Place], Awaitable[None]]

WORKLOADS: dict[str, Workload] = {
    "atomic_commit": commits.atomic_commit,
    "barrier": barriers.barrier,
    "config_value": values.config_value,
    "counter": values.counter,
    "double_barrier": barriers.double_barrier,
    "election": locks.election,
    "group": groups.group,
    "lock": locks.lock,
    "partitioner": groups.partitioner,
    "queue": work_lists.queue,
    "read_write_lock": locks.read_write_lock,
    "semaphore": locks.semaphore,
    "services": groups.services,
    "tree_cache": values.tree_cache,
    "work_queue": work_lists.work_queue,
}
