"""Where each record lives in the store: the keys, and nothing else writes or reads other keys.

Rule of this file: keys only. All numbers are big-endian, so the order of keys is the order of numbers.

    n <parent path> 00 <name>        a znode; the children of a node are one range ("n 00" is the root)
    h <zxid>                         the changes that one commit recorded, under the newest zxid among them
    s <session>                      a session
    r <session> <sequence>           the results of a session that one commit recorded, under the first
    e <session> <path>               the session owns this ephemeral node
    d <deadline, ms> <path>          a container or TTL node without children, and when it is due
    m                                applied index, zxid, digest and the other counters
    c                                the configuration of the cluster, opaque here

Whatever else a storage keeps in the same database must start with another byte.
"""

from __future__ import annotations

import struct
from struct import Struct

from coordsvc.statemachine.errors import CorruptStateError

META_KEY = b"m"
CONFIGURATION_KEY = b"c"

_NUMBER = Struct(">cQ")
_TWO_NUMBERS = Struct(">cQQ")

# Every key that starts with `n` is at or after the first and before the second, and so on.
NODES = (b"n", b"o")
HISTORY = (b"h", b"i")
SESSIONS = (b"s", b"t")
RESULTS = (b"r", b"s")
EPHEMERALS = (b"e", b"f")
DEADLINES = (b"d", b"e")


def node_key(path: str) -> bytes:
    """Return the key of the znode at `path`, which starts with a slash.

    Any text is taken, also an invalid path: no two texts without NUL share a key, valid paths have
    no NUL, and the keys of valid paths have exactly one, so an invalid path never finds a node.
    """
    encoded = path.encode("utf-8", "surrogatepass")
    slash = encoded.rindex(b"/")
    return b"n%b\0%b" % (encoded[:slash], encoded[slash + 1 :])


def node_path(key: bytes) -> str:
    """Return the path whose key this is. Raises CorruptStateError if it is none."""
    parent, separator, name = key[1:].partition(b"\0")
    if not separator:
        raise CorruptStateError(f"the key {key!r} is not that of a node")
    return _decode_path(key, parent + b"/" + name)


def children_prefix(path: str) -> bytes:
    """Return what the keys of the children of `path` start with."""
    if path == "/":
        return b"n\0"
    return b"n%b\0" % path.encode()


def children_range(prefix: bytes, after: str) -> tuple[bytes, bytes]:
    """Return the range of the children whose names are greater than `after`.

    Names hold no NUL, so `after` + NUL lies between `after` and the next name. With an empty
    `after` it also skips the root, whose own key is the prefix of its children.
    """
    return prefix + after.encode("utf-8", "surrogatepass") + b"\0", prefix[:-1] + b"\x01"


def history_key(zxid: int) -> bytes:
    """Return the key of the changes that one commit recorded: the newest of them was made by `zxid`.

    So the first record at or after the key of a zxid is the one that holds it.
    """
    return _NUMBER.pack(b"h", zxid)


def history_position(key: bytes) -> int:
    """Return the newest zxid in the record."""
    try:
        _, zxid = _NUMBER.unpack(key)
    except struct.error as error:
        raise CorruptStateError(f"the key {key!r} is not that of changes") from error
    return int(zxid)


def session_key(session_id: int) -> bytes:
    return _NUMBER.pack(b"s", session_id)


def result_key(session_id: int, sequence: int) -> bytes:
    """Return the key of the results that one commit recorded for a session, the first of this sequence."""
    return _TWO_NUMBERS.pack(b"r", session_id, sequence)


def result_position(key: bytes) -> tuple[int, int]:
    """Return the session and the first sequence."""
    try:
        _, session_id, sequence = _TWO_NUMBERS.unpack(key)
    except struct.error as error:
        raise CorruptStateError(f"the key {key!r} is not that of results") from error
    return session_id, sequence


def ephemeral_key(session_id: int, path: str) -> bytes:
    return _NUMBER.pack(b"e", session_id) + path.encode()


def deadline_key(deadline_ms: int, path: str) -> bytes:
    return _NUMBER.pack(b"d", deadline_ms) + path.encode()


def deadlines_before(now_ms: int) -> tuple[bytes, bytes]:
    """Return the range of the deadlines that are less than `now_ms`."""
    return _NUMBER.pack(b"d", 0), _NUMBER.pack(b"d", max(now_ms, 0))


def numbered_path(key: bytes) -> tuple[int, str]:
    """Return the session or the deadline of an index key, and the path."""
    if len(key) <= _NUMBER.size:
        raise CorruptStateError(f"the key {key!r} is not that of an index")
    number: int = _NUMBER.unpack_from(key)[1]
    return number, _decode_path(key, key[_NUMBER.size :])


def _decode_path(key: bytes, path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError as error:
        raise CorruptStateError(f"the key {key!r} holds no path") from error
