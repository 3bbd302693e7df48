"""A short campaign, every plan that once failed, and the proof that a seed is a run.

The long campaigns are `make sim SEEDS=2000`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.invariants import Violation
from tests.simulation.plan import from_toml, to_toml
from tests.simulation.report import failure_report
from tests.simulation.run import Result, plan_of, run
from tests.simulation.shrink import CORPUS

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 41)
DETERMINISM_SEEDS = (3, 17)

_PRINT_DIGESTS = """
import sys
from tests.simulation.run import plan_of, run
for seed in sys.argv[1:]:
    print(run(plan_of(int(seed))).digest)
"""


def _assert_green(result: Result, plan_file: Path | None = None) -> None:
    if result.violation is not None:
        pytest.fail(failure_report(result, plan_file), pytrace=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_holds_every_invariant(seed: int) -> None:
    result = run(plan_of(seed))

    _assert_green(result)
    assert result.operations > 0
    assert result.steps > 100


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.toml")), ids=lambda path: path.stem)
def test_what_failed_once_holds_now(path: Path) -> None:
    _assert_green(run(from_toml(path.read_text(encoding="utf-8"))), path)


@pytest.mark.parametrize("seed", [1, 29, 77])
def test_a_plan_survives_being_written_down(seed: int) -> None:
    plan = plan_of(seed)

    assert from_toml(to_toml(plan, "a comment\nof two lines")) == plan


def test_a_report_says_how_its_plan_is_run_again() -> None:
    drawn = run(plan_of(DETERMINISM_SEEDS[0]))
    drawn.violation = Violation("G1", "as if it were broken")
    file = CORPUS / "g1-3.toml"

    assert "replay: make sim SEED=3\n" in failure_report(drawn)
    assert f"replay: make sim ARGS='--plan {file}'\n" in failure_report(drawn, file)
    drawn.plan.safety_ms -= 1
    assert "seed 3 alone does not give this plan" in failure_report(drawn)


def _digests(hash_seed: str) -> list[str]:
    """Run the seeds in an interpreter of its own, with another seed for the hashes of strings."""
    finished = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGESTS, *map(str, DETERMINISM_SEEDS)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.split()


def test_the_same_seed_gives_the_same_run_in_every_interpreter() -> None:
    first, second = _digests("1"), _digests("4242")

    assert len(set(first)) == len(DETERMINISM_SEEDS), "different seeds are different runs"
    assert first == second
