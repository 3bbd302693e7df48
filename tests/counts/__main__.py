"""`make counts`: count all workloads, and write the numbers down."""

from __future__ import annotations

from tests.counts.recording import differences, record, recorded
from tests.counts.workloads import WORKLOADS


def main() -> None:
    """Say what is different from before, and record it."""
    before = recorded()
    found = {workload.name: workload.count() for workload in WORKLOADS}
    for workload in WORKLOADS:
        for line in differences(found[workload.name], before.get(workload.name, {}), workload.operations):
            print(f"{workload.name}: {line}")
    record(found)


if __name__ == "__main__":
    main()
