"""What was recorded is read back as it was, and judged from files as it would be in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsvc.statemachine.results import ErrorCode, Failure
from tests.checkers.__main__ import main
from tests.checkers.history import STREAM_RECURSIVE, Facts, History, LockRecord
from tests.checkers.history_files import HistoryFileError, read_history, to_json, write_history, write_record
from tests.checkers.random_history import RandomHistory


def recorded() -> History:
    story = RandomHistory(3)
    story.service.watch("ann", "/", STREAM_RECURSIVE)
    history = story.make(150)
    history.locks.append(LockRecord("ann", 1, "/lock", 5, was_paused=True))
    history.facts = Facts("a run", finished_ns=7, clock_error=0.5)
    history.operations[0].result = Failure(
        ErrorCode.TRANSACTION_FAILED, "é", "/a", 1, 2, 0, [ErrorCode.NO_NODE]
    )
    return history


def test_a_history_is_read_back_equal(tmp_path: Path) -> None:
    history = recorded()
    write_history(tmp_path / "all.jsonl", history)

    assert read_history([tmp_path / "all.jsonl"]) == history


def test_the_files_of_several_clients_are_one_history(tmp_path: Path) -> None:
    history = recorded()
    for client in ("ann", "bob", "cid", "dan"):
        with (tmp_path / f"{client}.jsonl").open("w", encoding="utf-8") as file:
            for operation in history.operations:
                if operation.client == client:
                    write_record(file, operation)

    read = read_history(sorted(tmp_path.glob("*.jsonl")))

    assert sorted(read.operations, key=lambda each: each.invoked_ns) == sorted(
        history.operations, key=lambda each: each.invoked_ns
    )


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "killed.jsonl"
    write_history(file, recorded())
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[:-40], encoding="utf-8")

    assert len(read_history([file]).locks) == len(recorded().locks)
    assert len(read_history([file]).session_ends) == len(recorded().session_ends) - 1


def test_a_damaged_line_before_the_last_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "damaged.jsonl"
    write_history(file, recorded())
    lines = file.read_text(encoding="utf-8").split("\n")
    lines[2] = lines[2][:-5]
    file.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(HistoryFileError, match="line 3"):
        read_history([file])


@pytest.mark.parametrize("line", ['{"is":"Nothing"}', '{"is":"Sync"}', '{"is":"Operation","what":1}', "[1]"])
def test_what_is_no_record_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "odd.jsonl").write_text(line + "\n", encoding="utf-8")

    with pytest.raises(HistoryFileError):
        read_history([tmp_path / "odd.jsonl"])


def test_a_value_that_no_history_holds_is_refused() -> None:
    with pytest.raises(HistoryFileError, match="cannot hold"):
        to_json(object())


def test_good_files_are_judged_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_history(tmp_path / "good.jsonl", RandomHistory(1, ["/a", "/a/b"], lost=0.01).make(60))

    assert main([str(tmp_path), "--search"]) == 0
    assert "0 violations" in capsys.readouterr().out


def test_bad_files_are_judged_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = RandomHistory(1).make(60)
    del history.committed[-1]
    write_history(tmp_path / "bad.jsonl", history)

    assert main([str(tmp_path / "bad.jsonl")]) == 1
    assert "G3: an answer names zxid" in capsys.readouterr().out


def test_files_without_operations_are_no_pass(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")

    assert main([str(tmp_path / "empty.jsonl")]) == 2
    assert main([str(tmp_path / "missing.jsonl")]) == 2
