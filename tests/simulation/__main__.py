"""`python -m tests.simulation`: run many seeds, or one; print what was done, and what was found.

Rule of this file: options and printing. Exit code 0: everything held; 1: a violation was found.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import plan_of, run

EXIT_VIOLATION = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        began = time.process_time()
        result = run(plan_of(seed))
        print(
            seed,
            f"{time.process_time() - began:.2f}s",
            result.steps,
            result.operations,
            result.simulated_ns // 10**9,
            result.violation,
        )
        if result.violation:
            print("\n".join(result.violation.details[-12:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
