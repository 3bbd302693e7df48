"""`python -m tests.checkers FILE...`: judge a recorded history again, from the files of all its recorders.

Rule of this file: it returns 0 if every checker has passed, 1 if one has not, 2 if there is nothing to judge.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.checkers import linearizability, locks
from tests.checkers.history_files import HistoryFileError, read_history
from tests.checkers.judge import judge
from tests.checkers.search import BUDGET


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.checkers", description="Judge recorded histories.")
    parser.add_argument(
        "files", nargs="+", type=Path, help="files of one history; a folder: all *.jsonl in it"
    )
    parser.add_argument("--search", action="store_true", help="search for an order too, blind to zxids")
    parser.add_argument("--budget", type=int, default=BUDGET, help="steps of the search for each subtree")
    chosen = parser.parse_args(arguments)
    try:
        history = read_history(_files(chosen.files))
    except (HistoryFileError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if not history.operations:
        print("there are no operations in these files", file=sys.stderr)
        return 2
    violations = judge(history)
    if chosen.search:
        violations += linearizability.check(history, chosen.budget)
    for violation in violations:
        print(violation)
    for overlap in locks.overlaps(history):
        print(f"for information: {overlap.text}")
    print(
        f"{len(history.operations)} operations, {len(history.committed)} changes, {len(history.watches)}"
        f" watches, {len(history.sessions)} sessions, {len(history.locks)} attempts at locks:"
        f" {len(violations)} violations"
    )
    return 1 if violations else 0


def _files(given: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in given:
        files += sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
