"""All workloads, by the name of their recipe.

Rule of this file: a recipe that is not in this table is not in the fault matrix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.recipes.workloads import locks
from tests.recipes.workloads.place import Place

Workload = Callable[[Place], Awaitable[None]]

WORKLOADS: dict[str, Workload] = {
    "lock": locks.lock,
    "election": locks.election,
}
