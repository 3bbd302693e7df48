"""Where the time of one durable write goes, from `client.set()` to the reply: `python -m bench --breakdown`.

Three members that note when a write passes their fixed points (`bench.traced_member`), and a client that does
the same (`bench.drivers.coordsvc_traced`), with one write under way at a time: attached to the leader, and
attached to a follower, in turns. The notes of one write are joined to a chain of moments, in which each
stage begins where the one before it has ended; so the stages of a write add up to its time exactly.

The leader writes to its disk while the followers do; the chain goes through whichever completed the majority.
That is mostly the faster follower; the writes for which it was the leader's own disk are counted, and left
out of the table.

Rule of this file: medians of stages need not add up to the median of the whole; the table says by how much.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.measuring import BenchError
from bench.processes import OtherPrograms, dies_with_us, wait_until
from bench.systems.coordsvc import Coordsvc
from bench.systems.system import MEMBERS
from bench.traced_member import (
    ACKNOWLEDGED,
    ANSWER,
    APPENDED,
    APPLIED,
    APPLY,
    DECODE,
    DISK_BEGIN,
    DISK_END,
    FORWARDED,
    LINK_OUT,
    PERSIST,
    PERSISTED,
)

PASSES = 3
WRITES_A_PASS = 250
FILE = "breakdown.json"
LEADER, FOLLOWER = "leader", "follower"
OWN_DISK = "the leader's own disk write, beside all of that"
_STOP_WITHIN_S = 20.0
_LIMIT_S = 120.0
_NS_PER_US = 1000.0

# What ends at each moment of the chain; those with a mark are only passed by a client of a follower.
CLIENT_OUT: Final = "client: call checked and encoded, frame given to gRPC"
GRPC_IN: Final = "gRPC, client to member"
FORWARD: Final = "follower: frame decoded, writes forwarded to the leader"
FORWARD_LINK: Final = "link, follower to leader"
PACK: Final = "leader: decoded, packed into an entry"
APPEND_OUT: Final = "leader: append encoded and sent to the followers"
APPEND_LINK: Final = "link, leader to follower"
FOLLOWER_IN: Final = "follower: append decoded, handed to its disk"
THREAD_IN: Final = "follower: storage thread woken"
DISK: Final = "follower: written to the log and synced"
THREAD_OUT: Final = "follower: event loop woken"
ACK_OUT: Final = "follower: acknowledgement sent"
ACK_LINK: Final = "link, follower to leader (acknowledgement)"
NOTICE_OUT: Final = "leader: counted, committed, followers told"
NOTICE_LINK: Final = "link, leader to follower (commit)"
COMMIT: Final = "commit noticed, apply begins"
APPLYING: Final = "applied to the tree"
ANSWERING: Final = "answer encoded, connection's task woken"
GRPC_OUT: Final = "gRPC, member to client"
CLIENT_IN: Final = "client: answer decoded, caller woken"
STAGES: Final = (
    CLIENT_OUT,
    GRPC_IN,
    FORWARD,
    FORWARD_LINK,
    PACK,
    APPEND_OUT,
    APPEND_LINK,
    FOLLOWER_IN,
    THREAD_IN,
    DISK,
    THREAD_OUT,
    ACK_OUT,
    ACK_LINK,
    NOTICE_OUT,
    NOTICE_LINK,
    COMMIT,
    APPLYING,
    ANSWERING,
    GRPC_OUT,
    CLIENT_IN,
)


class IncompleteError(Exception):
    """The notes of a write do not make a chain: a member was replaced as leader meanwhile, for example."""


@dataclass(frozen=True, slots=True)
class TracedWrite:
    """The moments (ns) of a write in its client."""

    called: int
    sent: int
    answered: int
    returned: int


class MemberNotes:
    """What one member has noted, by point, in the order of time."""

    def __init__(self, name: str, notes: Sequence[Sequence[Any]]) -> None:
        self.name = name
        self._moments: dict[str, list[int]] = {}
        self._identities: dict[str, list[Any]] = {}
        for point, passed_ns, identity in sorted(notes, key=lambda note: note[1]):
            self._moments.setdefault(point, []).append(passed_ns)
            self._identities.setdefault(point, []).append(identity)

    def first(
        self,
        point: str,
        after_ns: int,
        until_ns: int,
        is_it: Callable[[Any], bool] = lambda _identity: True,
    ) -> tuple[int, Any]:
        """Return the first note of a point in this span of time that is the one looked for.

        Raises:
            IncompleteError: There is none.
        """
        moments = self._moments.get(point, [])
        for place in range(bisect_left(moments, after_ns), len(moments)):
            if moments[place] > until_ns:
                break
            identity = self._identities[point][place]
            if is_it(identity):
                return moments[place], identity
        raise IncompleteError(f"{self.name} has not passed {point}")


@dataclass(slots=True)
class Chain:
    """The stages of one write with their lengths (ns), in order."""

    stages: dict[str, int] = field(default_factory=dict)
    own_disk_ns: int = 0  # from the entry's being handed to the leader's disk until it was durable there
    is_own_disk_last: bool = False

    @property
    def total_ns(self) -> int:
        return sum(self.stages.values())


def chain_of(write: TracedWrite, attached: str, leader: str, notes: Mapping[str, MemberNotes]) -> Chain:
    """Join the notes of one write.

    Raises:
        IncompleteError: Some are missing.
    """
    until = write.returned
    home, lead = notes[attached], notes[leader]
    moments: list[tuple[str, int]] = [("", write.called), (CLIENT_OUT, write.sent)]
    decoded, _ = home.first(DECODE, write.sent, until)
    moments.append((GRPC_IN, decoded))
    taken_in = decoded
    if attached != leader:
        forwarded, _ = home.first(LINK_OUT, decoded, until, lambda peer: peer == leader)
        taken_in, _ = lead.first(FORWARDED, forwarded, until, lambda peer: peer == attached)
        moments += [(FORWARD, forwarded), (FORWARD_LINK, taken_in)]
    packed, index = lead.first(PERSIST, taken_in, until)
    moments.append((PACK, packed))
    durable, _ = lead.first(PERSISTED, packed, until, lambda last: last >= index)
    completions = sorted([(durable, leader), *_acknowledgements(lead, packed, until, index, notes)])
    if len(completions) < MEMBERS - 1:
        raise IncompleteError("no follower has acknowledged in time")
    committed, completed_by = completions[1]
    chain = Chain(own_disk_ns=durable - packed, is_own_disk_last=completed_by == leader)
    if chain.is_own_disk_last:
        return chain
    moments += _through_follower(lead, notes[completed_by], packed, until, index)
    moments.append((ACK_LINK, committed))
    if attached != leader:
        told, _ = lead.first(LINK_OUT, committed, until, lambda peer: peer == attached)
        heard, _ = home.first(APPENDED, told, until, lambda found: found[1] >= index)
        moments += [(NOTICE_OUT, told), (NOTICE_LINK, heard)]
    began, _ = home.first(APPLY, moments[-1][1], until, lambda applied: applied == index)
    ended, _ = home.first(APPLIED, began, until, lambda applied: applied == index)
    answered, _ = home.first(ANSWER, ended, until)
    moments += [(COMMIT, began), (APPLYING, ended), (ANSWERING, answered)]
    moments += [(GRPC_OUT, write.answered), (CLIENT_IN, write.returned)]
    for (_, before_ns), (stage, after_ns) in pairwise(moments):
        if after_ns < before_ns:
            raise IncompleteError(f"{stage} ended before it began")
        chain.stages[stage] = after_ns - before_ns
    return chain


def _acknowledgements(
    lead: MemberNotes, after: int, until: int, index: int, notes: Mapping[str, MemberNotes]
) -> list[tuple[int, str]]:
    """Return when each follower's acknowledgement of the entry came to the leader; one may come too late."""
    found = []
    for name in notes:
        if name == lead.name:
            continue

        def is_it(acknowledgement: tuple[str, int], peer: str = name) -> bool:
            return acknowledgement[0] == peer and acknowledgement[1] >= index

        with suppress(IncompleteError):
            found.append((lead.first(ACKNOWLEDGED, after, until, is_it)[0], name))
    return found


def _through_follower(
    lead: MemberNotes, follower: MemberNotes, packed: int, until: int, index: int
) -> list[tuple[str, int]]:
    """Return the moments between the packing of an entry and the sending of a follower's acknowledgement."""
    appended, _ = lead.first(LINK_OUT, packed, until, lambda peer: peer == follower.name)
    came, _ = follower.first(APPENDED, appended, until, lambda found: found[0] >= index)
    handed, _ = follower.first(PERSIST, came, until, lambda last: last >= index)
    began, _ = follower.first(DISK_BEGIN, handed, until, lambda last: last >= index)
    ended, _ = follower.first(DISK_END, began, until, lambda last: last >= index)
    noticed, _ = follower.first(PERSISTED, ended, until, lambda last: last >= index)
    sent, _ = follower.first(LINK_OUT, noticed, until, lambda peer: peer == lead.name)
    stages = (APPEND_OUT, APPEND_LINK, FOLLOWER_IN, THREAD_IN, DISK, THREAD_OUT, ACK_OUT)
    return list(zip(stages, (appended, came, handed, began, ended, noticed, sent), strict=True))


# ---------------------------------------------------------------------------------------------
# Running


class _TracedCoordsvc(Coordsvc):
    """Three members that note what passes them, and write it down when they are asked to stop."""

    def notes_file(self, index: int) -> Path:
        return self.member_directory(index) / "notes"

    def command(self, index: int) -> list[str]:
        command = super().command(index)
        place = command.index("coordsvc")
        return [*command[:place], "bench.traced_member", str(self.notes_file(index)), *command[place + 1 :]]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(Path.cwd())}  # members run in their directories

    def notes(self) -> dict[str, MemberNotes]:
        """Stop the members in good order, and read what they have noted."""
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self.pids, _STOP_WITHIN_S, lambda: "the members do not stop")
        return {
            self.member_name(index): MemberNotes(
                self.member_name(index),
                [json.loads(line) for line in self.notes_file(index).read_text("ascii").splitlines()],
            )
            for index in range(MEMBERS)
        }


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Trace some hundred writes of each kind, and return the figures: see `table`."""
    below = Path("build")
    below.mkdir(exist_ok=True)
    written: list[tuple[str, TracedWrite]] = []
    with tempfile.TemporaryDirectory(prefix="bench-breakdown-", dir=below) as directory:
        system = _TracedCoordsvc()
        try:
            system.start(Path(directory))
            others = OtherPrograms(system.pids)
            leader = system.leader()
            for number in range(1, PASSES + 1):
                for index in (leader, (leader + 1) % MEMBERS):
                    written += [(system.member_name(index), write) for write in _write(system, index)]
                say(f"pass {number} of {PASSES}")
            if system.leader() != leader:
                raise BenchError("another member became leader meanwhile; try again")
            others_share = others.share()
            notes = system.notes()
        finally:
            system.close()
    return figures(written, system.member_name(leader), notes) | {"others_share": others_share}


def _write(system: Coordsvc, index: int) -> list[TracedWrite]:
    command = [*dies_with_us(), sys.executable, "-m", "bench.drivers.coordsvc_traced"]
    command += ["--endpoints", system.endpoint_list[index], "--writes", str(WRITES_A_PASS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise BenchError(f"the traced client failed: {done.stderr.strip()[-1000:]}")
    return [TracedWrite(*moments) for moments in json.loads(done.stdout)]


def figures(
    written: Sequence[tuple[str, TracedWrite]], leader: str, notes: Mapping[str, MemberNotes]
) -> dict[str, Any]:
    """Return medians (µs) by where the client was attached, and what was left out."""
    found: dict[str, Any] = {"measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    for where in (LEADER, FOLLOWER):
        chains, incomplete = [], 0
        for attached, write in written:
            if (attached == leader) != (where == LEADER):
                continue
            try:
                chains.append(chain_of(write, attached, leader, notes))
            except IncompleteError:
                incomplete += 1
        through = [chain for chain in chains if not chain.is_own_disk_last]
        if not through:
            raise BenchError(f"no write of a client of the {where} could be followed")
        found[where] = {
            "writes": len(through),
            "own_disk_last": len(chains) - len(through),
            "incomplete": incomplete,
            "stages": {
                stage: median(chain.stages[stage] for chain in through) / _NS_PER_US
                for stage in STAGES
                if stage in through[0].stages
            },
            "total": median(chain.total_ns for chain in through) / _NS_PER_US,
            "own_disk": median(chain.own_disk_ns for chain in through) / _NS_PER_US,
        }
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return the breakdown as a table in Markdown: a row for each stage, medians in µs."""
    sides = (found[LEADER], found[FOLLOWER])
    lines = [
        "| stage | client of the leader, µs | client of a follower, µs |",
        "|---|---|---|",
        *(_row(stage, [side["stages"].get(stage) for side in sides]) for stage in STAGES),
    ]
    remains = [side["total"] - sum(side["stages"].values()) for side in sides]
    lines.append(_row("what the medians do not add up to", remains))
    lines.append(_row("**the whole write**", [side["total"] for side in sides], "**"))
    lines.append(_row(f"*{OWN_DISK}*", [side["own_disk"] for side in sides], "*"))
    return "\n".join(lines)


def _row(title: str, values: Sequence[float | None], mark: str = "") -> str:
    cells = ("" if value is None else f"{mark}{value:,.0f}{mark}" for value in values)
    return f"| {title} | {' | '.join(cells)} |"


def remark(found: Mapping[str, Any]) -> str:
    """Return how the table came about, in one sentence."""
    parts = []
    for where in (LEADER, FOLLOWER):
        side = found[where]
        parts.append(
            f"{side['writes']} writes of a client of the {where} (besides, {side['own_disk_last']} that the "
            f"leader's own disk completed, and {side['incomplete']} whose notes make no chain)"
        )
    share = found["others_share"]
    return f"{found['measured']}; {'; '.join(parts)}; other programs used {share:.0%} of the machine."
