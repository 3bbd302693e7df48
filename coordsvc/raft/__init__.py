"""Consensus: one node of a Raft cluster as a pure function of its inputs. After etcd's core.

Start with `ready.py`, the contract with whoever drives it, then `node.py`, its public face. Behind it, by
concern: `admission` (which messages are heard), `proposals`, `election`, `replication`, `reads` with
`read_queue`, `snapshots`, `transfer`; what they work on: `state`, `log`, `configurations` (those in the log),
`membership` (the one in force), `progress`, `quorum`. What must always hold stands in `invariants.py`.

Rule of this package: no clock, dice, disk, network or task in here, and no import of ours from outside it.
"""
