"""Configurations as the data of log entries, in a form that can be read: `a,b;a,c;d;c`.

The parts are voters, outgoing voters, learners, and learners to be; empty ones at the end may be left out.
"""

from __future__ import annotations

from coordsvc.raft.types import Configuration


def encode(configuration: Configuration) -> bytes:
    parts = (
        configuration.voters,
        configuration.voters_outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    return ";".join(",".join(names) for names in parts).rstrip(";").encode()


def decode(data: bytes) -> Configuration:
    parts = [tuple(name for name in part.split(",") if name) for part in data.decode().split(";")]
    if len(parts) > 4:
        raise ValueError(f"not a configuration: {data!r}")
    voters, outgoing, learners, learners_next = [*parts, (), (), ()][:4]
    return Configuration(voters, outgoing, learners, learners_next)
