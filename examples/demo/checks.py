"""What must have held all the while: one leader at a time, a whole file, a right list of instances.

Rule of this file: it looks at what was recorded by the service, in the file and by the programs, afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coordclient import Event
from examples.demo.processes import DemoFailedError, Line
from examples.ledger_writer import ENTRY


def check_leaders(work: Iterable[Event], lines: list[Line], deaths: dict[tuple[str, int], float]) -> str:
    """The service's own record of the leaders' work shows one leader at a time, by token.

    Each value says who wrote it, under which token, and a count. Tokens only grow, each belongs to one
    program, and counts go 1, 2, 3 without gap or repeat: no late leader wrote, no write was lost or doubled.
    """
    token_now, count_now = 0, 0
    owners: dict[int, str] = {}
    for event in work:
        if not event.value:
            continue  # the node was created, empty
        name, token_text, count_text = event.value.decode().split()
        token, count = int(token_text), int(count_text)
        if token < token_now:
            raise DemoFailedError(f"{name} wrote under token {token} after token {token_now} had led")
        if owners.setdefault(token, name) != name:
            raise DemoFailedError(f"token {token} belongs to {owners[token]} and to {name}")
        expected = count_now + 1 if token == token_now else 1
        if count != expected:
            raise DemoFailedError(f"{name}, token {token}: write {count} where {expected} was due")
        token_now, count_now = token, count
    _check_elected_after_the_last(lines, deaths)
    if len(set(owners.values())) < 2:
        raise DemoFailedError("leadership was never handed over")
    return f"one leader at a time: {len(owners)} terms, tokens {', '.join(map(str, owners))}"


def _check_elected_after_the_last(lines: list[Line], deaths: dict[tuple[str, int], float]) -> None:
    """By the clock too: nobody is elected while another one that was elected lives and was not deposed."""
    leading: Line | None = None
    for line in lines:
        if not line.program.startswith("candidate-"):
            continue
        if line.text == "deposed" and leading is not None and leading.program == line.program:
            leading = None
        if not line.text.startswith("elected "):
            continue
        if leading is not None and deaths.get((leading.program, leading.life), line.time_s) >= line.time_s:
            raise DemoFailedError(f"{line.program} was elected while {leading.program} led")
        leading = line


def check_ledger(path: Path, head: int) -> str:
    """The file is entries and nothing else, numbered 1 to head, under tokens that never go back."""
    data = path.read_bytes()
    position, number, newest_token, holders = 0, 0, 0, 0
    while position < len(data):
        entry = ENTRY.match(data, position)
        if entry is None:
            torn = data[position : position + 80].decode(errors="replace")
            raise DemoFailedError(f"the file is torn or interleaved after entry {number}: {torn!r}")
        number += 1
        if int(entry[1]) != number:
            raise DemoFailedError(f"entry {int(entry[1])} stands where {number} was due")
        if int(entry[2]) < newest_token:
            raise DemoFailedError(f"entry {number} has token {int(entry[2])}, older than {newest_token}")
        holders += int(entry[2]) > newest_token
        newest_token, position = int(entry[2]), entry.end()
    if number != head:
        raise DemoFailedError(f"the file has {number} entries, the service counted {head}")
    return f"the file is whole: {number} entries under {holders} tokens, none torn, lost or repeated"


def check_discovery(lines: list[Line], ports: Iterable[int]) -> str:
    """The watcher's last word is what is there."""
    expected = f"instances {','.join(str(port) for port in sorted(ports))}"
    heard = [line.text for line in lines if line.program == "watcher" and line.text.startswith("instances ")]
    if not heard or heard[-1] != expected:
        raise DemoFailedError(f"the watcher last saw {heard[-1] if heard else 'nothing'!r}, not {expected!r}")
    return f"discovery is right at the end: {expected}, after {len(heard)} views"
