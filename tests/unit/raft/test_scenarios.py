"""The golden transcripts in `scenarios/`. After etcd-io/raft's testdata.

Run with COORDSVC_REWRITE_SCENARIOS=1 to write down what happens now; commit the difference only if you
understand it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.raft import transcript

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    observed = transcript.run(text)

    if os.environ.get("COORDSVC_REWRITE_SCENARIOS"):
        path.write_text(observed, encoding="utf-8")
    assert observed == text or os.environ.get("COORDSVC_REWRITE_SCENARIOS")


def test_a_transcript_that_differs_is_noticed() -> None:
    text = "start a\ncampaign a\n----\nnothing happens\n"
    assert transcript.run(text) != text
