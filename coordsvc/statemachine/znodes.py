"""A znode as the tree keeps it, and its record in the store.

Rule of this file: one znode has exactly one encoding, because members compare hashes of it.
A `Znode` is never changed once made; a change makes a new one, so an undo only puts the old one back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct

from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.types import CreateMode, Stat

_FORMAT = 1

# Format, kind, TTL; then the stat; then the value.
_HEADER = Struct(">BBq")
_STAT = Struct(">11q")
_RECORD = Struct(">BBq11q")
STAT_BYTES = _STAT.size

PERSISTENT = int(CreateMode.PERSISTENT)
EPHEMERAL = int(CreateMode.EPHEMERAL)
CONTAINER = int(CreateMode.CONTAINER)
TTL = int(CreateMode.TTL)
_KINDS = (PERSISTENT, EPHEMERAL, CONTAINER, TTL)
_PLAIN_HEADERS = {kind: _HEADER.pack(_FORMAT, kind, 0) for kind in _KINDS}

CONTAINER_UNUSED_MS_MAX = 300_000
"""A container that never had a child goes after this. ZooKeeper's znode.container.maxNeverUsedIntervalMs."""


@dataclass(slots=True)
class Znode:
    """One node: `kind` is its create mode without the sequential part, `fingerprint` a cache.

    `ttl_ms` of an ephemeral node is how long it lingers: the TTL of the grave that it leaves if its session
    expires.
    """

    value: bytes
    stat: Stat
    kind: int = PERSISTENT
    ttl_ms: int = 0
    fingerprint: int | None = None


def creations(stat: Stat) -> int:
    """Return how many children were ever created: what ZooKeeper stores as cversion, and numbers names by."""
    return (stat.cversion + stat.num_children) >> 1


def deadline_ms(node: Znode) -> int | None:
    """Return the time after which the service may remove this node; None: not as it is now."""
    stat = node.stat
    if stat.num_children:
        return None
    if node.kind == TTL:
        return stat.mtime + node.ttl_ms
    if node.kind == CONTAINER:
        return 0 if stat.cversion else stat.mtime + CONTAINER_UNUSED_MS_MAX
    return None


def pack_stat(stat: Stat) -> bytes:
    return _STAT.pack(
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children,
    )


def unpack_stat(data: bytes, offset: int) -> Stat:
    """Read a stat. Raises struct.error if there are too few bytes."""
    return Stat(*_STAT.unpack_from(data, offset))


def encode_znode(node: Znode) -> bytes:
    header = _HEADER.pack(_FORMAT, node.kind, node.ttl_ms) if node.ttl_ms else _PLAIN_HEADERS[node.kind]
    return header + pack_stat(node.stat) + node.value


def decode_znode(path: str, record: bytes) -> Znode:
    """Read the record of the node at `path`. Raises CorruptStateError."""
    try:
        version, kind, ttl_ms, *numbers = _RECORD.unpack_from(record)
    except struct.error as error:
        raise CorruptStateError(f"the record of {path} is cut off after {len(record)} bytes") from error
    if version != _FORMAT or kind not in _KINDS:
        raise CorruptStateError(f"the record of {path} has the unknown format {version}, kind {kind}")
    stat = Stat(*numbers)
    value = record[_RECORD.size :]
    if stat.data_length != len(value):
        raise CorruptStateError(f"{path} should hold {stat.data_length} bytes and holds {len(value)}")
    return Znode(value, stat, kind, ttl_ms)


def plain_num_children(record: bytes, zxid_max: int, time_ms_max: int, value_bytes_max: int) -> int | None:
    """Return how many children a node has that is persistent and all right; None: it needs a closer look.

    It asks what `invariants` asks of every node, at a quarter of the price: a start looks at all nodes.
    """
    size = len(record) - _RECORD.size
    if not 0 <= size <= value_bytes_max:
        return None
    (
        version,
        kind,
        ttl_ms,
        czxid,
        mzxid,
        pzxid,
        ctime,
        mtime,
        changes,
        cversion,
        _,
        owner,
        length,
        num_children,
    ) = _RECORD.unpack_from(record)
    if version != _FORMAT or kind != PERSISTENT or ttl_ms or owner or length != size:
        return None
    if not (czxid <= mzxid <= zxid_max and czxid <= pzxid <= zxid_max and ctime <= mtime <= time_ms_max):
        return None
    if changes < 0 or not 0 <= num_children <= cversion or (cversion - num_children) & 1:
        return None
    return int(num_children)


DIGEST_MASK = (1 << 64) - 1


def fingerprint(key: bytes, record: bytes) -> int:
    """Return the node's share of the digest of the tree: 64 bits of a hash of where and what it is.

    The digest is the sum of the shares modulo 2**64: a change costs two hashes, the order does not
    matter, and unlike with xor two equal shares do not cancel. A key never runs into its record: names hold
    no character below U+0020, and a record starts with its format.
    """
    return int.from_bytes(blake2b(key + record, digest_size=8).digest(), "big")
