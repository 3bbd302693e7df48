"""What must always be true of the tree, its sessions and its changes (Z1 to Z11), as checks.

Rule of this file: it trusts nothing that is kept incrementally; it counts again, from the records alone.
`store_checks` is what a member runs on what it finds on disk; the others are for tests and the simulator.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.layout import (
    DEADLINES,
    EPHEMERALS,
    NODES,
    node_key,
    node_path,
    numbered_path,
)
from coordsvc.statemachine.paths import ROOT, explain_invalid, parent_of
from coordsvc.statemachine.records import Meta, Session
from coordsvc.statemachine.store import Records
from coordsvc.statemachine.tree import index_keys
from coordsvc.statemachine.types import Limits, Stat
from coordsvc.statemachine.znodes import (
    DIGEST_MASK,
    EPHEMERAL,
    TTL,
    Znode,
    decode_znode,
    fingerprint,
    plain_num_children,
)

NODES_PER_STEP = 200


def store_checks(
    store: Records, limits: Limits, meta: Meta, sessions: Mapping[int, Session]
) -> Iterator[None]:
    """Check everything that is committed, in one pass, in little memory, in steps of `NODES_PER_STEP` nodes.

    All is well when the iterator ends; it raises CorruptStateError. `store` must not change meanwhile;
    `sessions` is looked at now, and may.
    """
    owned = {path: session_id for session_id, session in sessions.items() for path in session.ephemerals}
    return _checks(store, limits, meta, frozenset(sessions), owned)


def _checks(
    store: Records, limits: Limits, meta: Meta, sessions: Container[int], owned: Mapping[str, int]
) -> Iterator[None]:
    count = children = digest = ephemerals = deadlines = 0
    parent_key = b""
    siblings = expected_siblings = 0
    for key, record in store.scan(*NODES):
        path = node_path(key)
        count += 1
        digest += fingerprint(key, record)
        num_children = plain_num_children(record, meta.zxid, meta.time_ms, limits.value_bytes)
        if num_children is None or explain_invalid(path, limits.path_bytes) is not None:
            node = decode_znode(path, record)
            num_children = node.stat.num_children
            _check_node(path, node, meta, limits, sessions)
            for index_key in index_keys(path, node):
                _expect(store.get(index_key) == b"", f"Z4: the index has no entry for {path}")
                if node.kind == EPHEMERAL:
                    ephemerals += 1
                else:
                    deadlines += 1
        children += num_children
        if not count % NODES_PER_STEP:
            yield
        if path == ROOT:
            continue
        prefix = key[: key.index(b"\0") + 1]
        if prefix != parent_key:
            _expect(siblings == expected_siblings, f"Z2: a node before {path} counts its children wrongly")
            parent_key = prefix
            siblings, expected_siblings = 0, _num_children(store, parent_of(path), path)
        siblings += 1
    _expect(siblings == expected_siblings, "Z2: the last parent counts its children wrongly")
    _expect(store.get(node_key(ROOT)) is not None, "Z1: there is no root")
    _expect(children == count - 1, f"Z2: {count} nodes have {children} children")
    _expect(count == meta.node_count, f"there are {count} nodes, and {meta.node_count} are counted")
    _expect(digest & DIGEST_MASK == meta.digest, "the digest of the tree does not match its records")
    _expect(
        ephemerals == _length(store, EPHEMERALS) == len(owned),
        "Z4: the sessions own other nodes than there are",
    )
    _expect(deadlines == _length(store, DEADLINES), "the index of deadlines has entries too many")
    for key, _ in store.scan(*EPHEMERALS):
        session_id, path = numbered_path(key)
        _expect(owned.get(path) == session_id, f"Z4: {path} is not known to its session {session_id}")


def _check_node(path: str, node: Znode, meta: Meta, limits: Limits, sessions: Container[int]) -> None:
    """Check what can be seen at one node alone; `plain_num_children` lets most nodes pass without."""
    stat = node.stat
    reason = explain_invalid(path, limits.path_bytes)
    _expect(reason is None, f"Z9: the path {path!r} is invalid: {reason}")
    _expect(len(node.value) <= limits.value_bytes, f"Z9: {path} holds {len(node.value)} bytes")
    _expect(stat.czxid <= stat.mzxid <= meta.zxid, f"Z3: {path} was set by transaction {stat.mzxid}")
    _expect(stat.czxid <= stat.pzxid <= meta.zxid, f"Z2: {path} has children of transaction {stat.pzxid}")
    _expect(stat.ctime <= stat.mtime <= meta.time_ms, f"Z10: {path} was set at {stat.mtime}")
    _expect(stat.version >= 0, f"Z3: {path} has version {stat.version}")
    _expect(0 <= stat.num_children <= stat.cversion, f"Z2: {path} has {stat.num_children} children")
    _expect((stat.cversion - stat.num_children) % 2 == 0, f"Z2: {path} has a cversion that cannot be")
    _expect(
        (node.kind == EPHEMERAL) == (stat.ephemeral_owner != 0),
        f"Z4: {path} has owner {stat.ephemeral_owner}",
    )
    _expect(
        (node.ttl_ms > 0) == (node.kind == TTL) or (node.kind == EPHEMERAL and node.ttl_ms >= 0),
        f"Z5: {path} has a TTL of {node.ttl_ms} ms",
    )
    if node.kind == EPHEMERAL:
        _expect(stat.cversion == 0, f"Z4: the ephemeral node {path} had children")
        _expect(stat.ephemeral_owner in sessions, f"Z4: {path} belongs to no session")


def _num_children(store: Records, parent: str, child: str) -> int:
    record = store.get(node_key(parent))
    if record is None:
        raise CorruptStateError(f"Z1: {child} has no parent")
    return decode_znode(parent, record).stat.num_children


def _length(store: Records, keys: tuple[bytes, bytes]) -> int:
    return sum(1 for _ in store.scan(*keys))


def nodes(store: Records) -> Iterator[tuple[str, Znode]]:
    """Yield all committed nodes, the children of a node together."""
    for key, record in store.scan(*NODES):
        path = node_path(key)
        yield path, decode_znode(path, record)


def check_changes(before: Mapping[str, Znode], after: Mapping[str, Znode], changes: list[Change]) -> None:
    """Check that the changes lead from one tree to the other (Z11, Z2, Z3). Raises CorruptStateError."""
    expected = {path: (node.value, node.stat.czxid, node.stat.version) for path, node in before.items()}
    cversions = {path: node.stat.cversion for path, node in before.items()}
    newest = max((max(node.stat.mzxid, node.stat.pzxid) for node in before.values()), default=0)
    for change in changes:
        _expect(change.zxid >= newest, f"Z11: transaction {change.zxid} comes after {newest}")
        newest = change.zxid
        _replay(expected, cversions, change)
    found = {path: (node.value, node.stat.czxid, node.stat.version) for path, node in after.items()}
    _expect(found == expected, "Z11: the changes do not lead to the tree that is there")
    for path, node in after.items():
        stat = node.stat
        _expect(
            stat.cversion == cversions[path],
            f"Z2: {path} has cversion {stat.cversion}, not {cversions[path]}",
        )
        earlier = before.get(path)
        if earlier is not None and earlier.stat.czxid == stat.czxid:
            _check_growth(path, earlier.stat, stat)


def _replay(expected: dict[str, tuple[bytes, int, int]], cversions: dict[str, int], change: Change) -> None:
    """Do to the plain trees what the change says."""
    path, stat = change.path, change.stat
    if change.type == ChangeType.CHANGED:
        _expect(path in expected, f"Z11: {path} was set and not there")
        _, czxid, version = expected[path]
        _expect(
            (stat.czxid, stat.version) == (czxid, version + 1), f"Z3: {path} jumped to version {stat.version}"
        )
        expected[path] = (change.value, czxid, version + 1)
        return
    if change.type == ChangeType.CREATED:
        _expect(path not in expected, f"Z11: {path} was created twice")
        expected[path] = (change.value, change.zxid, 0)
        cversions[path] = 0
    else:
        _expect(expected.pop(path, None) is not None, f"Z11: {path} was deleted and not there")
    parent = parent_of(path)
    _expect(parent in cversions, f"Z1: {path} came or went under no parent")
    cversions[parent] += 1


def _check_growth(path: str, before: Stat, after: Stat) -> None:
    """Check that a node that stayed the same node only moved forward."""
    _expect(after.version >= before.version, f"Z3: the version of {path} went back")
    _expect(after.mzxid >= before.mzxid, f"Z3: the mzxid of {path} went back")
    _expect(after.pzxid >= before.pzxid, f"Z2: the pzxid of {path} went back")
    _expect(after.mtime >= before.mtime, f"Z10: the mtime of {path} went back")
    _expect(
        (after.pzxid > before.pzxid) == (after.cversion > before.cversion),
        f"Z2: {path} lost count of its children",
    )


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CorruptStateError(otherwise)
