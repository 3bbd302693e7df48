"""Breakdown and curves from the command line: what is kept, and what is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as program
from bench import breakdown, curve_plotting, curves
from bench.measuring import BenchError

SIDE = {"stages": {}, "total": 1.0, "own_disk": 1.0, "writes": 3, "own_disk_last": 0, "incomplete": 0}


def a_curve(curve: curves.Curve, *_: Any) -> dict[str, Any]:
    point = {"operation": "write", "x": 1, "per_second": 10.0, "p50_ms": 1.0, "cpu_ms": 0.1}
    return {"measured": f"{curve.name} on a day", "points": [point]}


def no_plot(*_: Any) -> None:
    raise BenchError("matplotlib is not installed")


@pytest.fixture(autouse=True)
def measured_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(curves, "measure", a_curve)
    monkeypatch.setattr(curve_plotting, "plot", no_plot)
    handler = signal.getsignal(signal.SIGTERM)  # the program sets its own
    yield
    signal.signal(signal.SIGTERM, handler)


def test_curves_are_kept_beside_those_that_were_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--curves", "members", "--out", str(tmp_path)]) == 0
    assert program.main(["--curves", "tree", "--out", str(tmp_path)]) == 0

    assert list(json.loads((tmp_path / "curves.json").read_text())) == ["members", "tree"]
    assert "members on a day" in (tmp_path / "curves.md").read_text()
    assert "there is no plot: matplotlib is not installed" in capsys.readouterr().err


def test_an_unknown_curve_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--curves", "disks", "--out", str(tmp_path)]) == 2

    assert "there is no curve 'disks'" in capsys.readouterr().err


def test_a_breakdown_is_printed_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = {"leader": SIDE, "follower": SIDE, "measured": "on a day", "others_share": 0.0}
    monkeypatch.setattr(breakdown, "measure", lambda _say: traced)

    assert program.main(["--breakdown", "--out", str(tmp_path)]) == 0

    assert json.loads((tmp_path / breakdown.FILE).read_text())["measured"] == "on a day"
    assert "| **the whole write** | **1** | **1** |" in capsys.readouterr().out
