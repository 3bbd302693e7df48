"""The records beside the znodes: results, changes, sessions, counters.

Rule of this file: bytes that were written here come back as equal values, and bytes that were not are
refused with `CorruptStateError`. Every record starts with its format. Texts may come from outside and hold
anything, surrogates too, so they are encoded with `surrogatepass`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import TypeVar

from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.statemachine.results import (
    Checked,
    Children,
    Created,
    Deleted,
    ErrorCode,
    ExistsResult,
    Failure,
    Node,
    OpResult,
    TransactionResult,
    WasSet,
    WriteResult,
)
from coordsvc.statemachine.types import Stat
from coordsvc.statemachine.znodes import STAT_BYTES, pack_stat, unpack_stat

_T = TypeVar("_T")

_FORMAT = 1
_LENGTH = Struct(">I")
_NUMBER = Struct(">q")
_CHANGE = Struct(">BBI")  # format, type, bytes of the path
_RESULT = Struct(">Bq")  # format, zxid
_SESSION = Struct(">B6q")
_META = Struct(">B4qQ5q")

_ERROR_CODES = {int(code): code for code in ErrorCode}
_CHANGE_TYPES = {int(kind): kind for kind in ChangeType}


class _Reader:
    """Takes one record apart, front to back."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def byte(self) -> int:
        value = self._data[self._offset]
        self._offset += 1
        return value

    def number(self) -> int:
        value: int = _NUMBER.unpack_from(self._data, self._offset)[0]
        self._offset += _NUMBER.size
        return value

    def optional(self) -> int | None:
        return self.number() if self.byte() else None

    def count(self) -> int:
        value: int = _LENGTH.unpack_from(self._data, self._offset)[0]
        self._offset += _LENGTH.size
        return value

    def blob(self) -> bytes:
        size = self.count()
        value = self._data[self._offset : self._offset + size]
        if len(value) != size:
            raise IndexError(f"{size} bytes announced, {len(value)} there")
        self._offset += size
        return value

    def text(self) -> str:
        return self.blob().decode("utf-8", "surrogatepass")

    def stat(self) -> Stat:
        value = unpack_stat(self._data, self._offset)
        self._offset += STAT_BYTES
        return value

    def end(self) -> None:
        if self._offset != len(self._data):
            raise IndexError(f"{len(self._data) - self._offset} bytes too many")


def _blob(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _text(text: str) -> bytes:
    return _blob(text.encode("utf-8", "surrogatepass"))


def _optional(number: int | None) -> bytes:
    return b"\0" if number is None else b"\1" + _NUMBER.pack(number)


# -- results ------------------------------------------------------------------------------------

_CREATED, _WAS_SET, _DELETED, _CHECKED, _NODE, _EXISTS, _CHILDREN, _TRANSACTION, _FAILURE = range(1, 10)


def encode_result(zxid: int, result: WriteResult) -> bytes:
    return _RESULT.pack(_FORMAT, zxid) + _encode_outcome(result)


def _encode_outcome(result: OpResult | TransactionResult | Failure) -> bytes:
    match result:
        case WasSet(stat):
            return b"\x02" + pack_stat(stat)
        case Created(path, stat):
            return b"\x01" + pack_stat(stat) + _text(path)
        case Deleted(count):
            return b"\x03" + _NUMBER.pack(count)
        case Checked():
            return b"\x04"
        case Node():
            return b"\x05" + _encode_node(result)
        case ExistsResult(stat):
            return b"\x06\0" if stat is None else b"\x06\1" + pack_stat(stat)
        case Children():
            return b"\x07" + _encode_children(result)
        case TransactionResult(succeeded, results):
            parts = [b"\x08\1" if succeeded else b"\x08\0", _LENGTH.pack(len(results))]
            parts.extend(_encode_outcome(each) for each in results)
            return b"".join(parts)
        case Failure():
            return b"\x09" + _encode_failure(result)


def _encode_node(node: Node) -> bytes:
    return _text(node.path) + _blob(node.value) + pack_stat(node.stat)


def _encode_children(page: Children) -> bytes:
    parts = [_LENGTH.pack(len(page.names))]
    parts.extend(_text(name) for name in page.names)
    parts.append(_LENGTH.pack(len(page.nodes)))
    parts.extend(_encode_node(node) for node in page.nodes)
    parts.append(pack_stat(page.stat))
    parts.append(b"\1" if page.more else b"\0")
    return b"".join(parts)


def _encode_failure(failure: Failure) -> bytes:
    return b"".join(
        (
            bytes((failure.code,)),
            _text(failure.message),
            _text(failure.path),
            _optional(failure.expected_version),
            _optional(failure.actual_version),
            _optional(failure.failed_index),
            _blob(bytes(failure.op_codes)),
        )
    )


def decode_result(where: str, record: bytes) -> tuple[int, WriteResult]:
    """Return the zxid and the result."""
    return _decode(where, record, _read_result)


def _read_result(record: bytes) -> tuple[int, WriteResult]:
    version, zxid = _RESULT.unpack_from(record)
    _expect_format(version)
    reader = _Reader(record, _RESULT.size)
    result = _read_outcome(reader)
    reader.end()
    if isinstance(result, Checked | Node | ExistsResult | Children):
        raise ValueError("a read is not the result of a write")
    return zxid, result


def _read_outcome(reader: _Reader) -> OpResult | TransactionResult | Failure:
    tag = reader.byte()
    if tag == _TRANSACTION:
        succeeded = bool(reader.byte())
        return TransactionResult(
            succeeded, [_read_operation(reader, reader.byte()) for _ in range(reader.count())]
        )
    if tag == _FAILURE:
        return _read_failure(reader)
    return _read_operation(reader, tag)


def _read_operation(reader: _Reader, tag: int) -> OpResult:
    match tag:
        case 1:
            stat = reader.stat()
            return Created(reader.text(), stat)
        case 2:
            return WasSet(reader.stat())
        case 3:
            return Deleted(reader.number())
        case 4:
            return Checked()
        case 5:
            return _read_node(reader)
        case 6:
            return ExistsResult(reader.stat() if reader.byte() else None)
        case 7:
            names = [reader.text() for _ in range(reader.count())]
            nodes = [_read_node(reader) for _ in range(reader.count())]
            return Children(names, nodes, reader.stat(), bool(reader.byte()))
    raise ValueError(f"unknown kind of result {tag}")


def _read_node(reader: _Reader) -> Node:
    path = reader.text()
    return Node(path, reader.blob(), reader.stat())


def _read_failure(reader: _Reader) -> Failure:
    return Failure(
        code=_ERROR_CODES[reader.byte()],
        message=reader.text(),
        path=reader.text(),
        expected_version=reader.optional(),
        actual_version=reader.optional(),
        failed_index=reader.optional(),
        op_codes=[_ERROR_CODES[code] for code in reader.blob()],
    )


# -- changes ------------------------------------------------------------------------------------


def encode_change(change: Change) -> bytes:
    """Encode all but the zxid, which is in the key."""
    path = change.path.encode()
    return _CHANGE.pack(_FORMAT, change.type, len(path)) + pack_stat(change.stat) + path + change.value


def decode_change(where: str, zxid: int, record: bytes) -> Change:
    return _decode(where, record, lambda data: _read_change(zxid, data))


def _read_change(zxid: int, record: bytes) -> Change:
    version, kind, path_bytes = _CHANGE.unpack_from(record)
    _expect_format(version)
    start = _CHANGE.size + STAT_BYTES
    if len(record) < start + path_bytes:
        raise IndexError("the path is cut off")
    path = record[start : start + path_bytes].decode()
    stat = unpack_stat(record, _CHANGE.size)
    return Change(_CHANGE_TYPES[kind], path, zxid, record[start + path_bytes :], stat)


# -- sessions -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """A client's replicated identity, and what it may still ask for again.

    `results` holds the zxid and the answer of each write not yet acknowledged, by sequence, ascending.
    `ephemerals` is an ordered set of paths; its order says nothing. `owner` is who attached it last.
    """

    session_id: int
    secret: bytes
    timeout_ms: int
    client_name: str
    opened_ms: int
    last_sequence: int = 0
    acknowledged_sequence: int = 0
    results: dict[int, tuple[int, WriteResult]] = field(default_factory=dict)
    ephemerals: dict[str, None] = field(default_factory=dict)
    owner: tuple[str, int] | None = None
    large_results: dict[int, int] = field(default_factory=dict)  # sequence to bytes, of those worth counting
    large_results_bytes: int = 0


def encode_session(session: Session) -> bytes:
    """Encode what has no record of its own: results and ephemerals have."""
    member, connection = session.owner if session.owner is not None else ("", -1)
    return b"".join(
        (
            _SESSION.pack(
                _FORMAT,
                session.session_id,
                session.timeout_ms,
                session.opened_ms,
                session.last_sequence,
                session.acknowledged_sequence,
                connection,
            ),
            _blob(session.secret),
            _text(session.client_name),
            b"\0" if session.owner is None else b"\1",
            _text(member),
        )
    )


def decode_session(where: str, record: bytes) -> Session:
    return _decode(where, record, _read_session)


def _read_session(record: bytes) -> Session:
    version, session_id, timeout_ms, opened_ms, last, acknowledged, connection = _SESSION.unpack_from(record)
    _expect_format(version)
    reader = _Reader(record, _SESSION.size)
    secret = reader.blob()
    client_name = reader.text()
    is_owned = reader.byte()
    member = reader.text()
    reader.end()
    owner = (member, connection) if is_owned else None
    return Session(session_id, secret, timeout_ms, client_name, opened_ms, last, acknowledged, owner=owner)


# -- counters -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Meta:
    """The counters of the machine as of its newest commit."""

    applied_index: int = 0
    applied_term: int = 0
    zxid: int = 0
    time_ms: int = 0
    digest: int = 0
    node_count: int = 0
    next_session_id: int = 1
    history_first_zxid: int = 1
    history_changes: int = 0
    history_bytes: int = 0


def encode_meta(meta: Meta) -> bytes:
    return _META.pack(
        _FORMAT,
        meta.applied_index,
        meta.applied_term,
        meta.zxid,
        meta.time_ms,
        meta.digest,
        meta.node_count,
        meta.next_session_id,
        meta.history_first_zxid,
        meta.history_changes,
        meta.history_bytes,
    )


def decode_meta(record: bytes) -> Meta:
    return _decode("the counters", record, _read_meta)


def _read_meta(record: bytes) -> Meta:
    version, *numbers = _META.unpack(record)
    _expect_format(version)
    return Meta(*numbers)


# -----------------------------------------------------------------------------------------------


def _expect_format(version: int) -> None:
    if version != _FORMAT:
        raise ValueError(f"unknown format {version}")


def _decode(where: str, record: bytes, read: Callable[[bytes], _T]) -> _T:
    """Read a record, and turn every way in which it can be wrong into one error."""
    try:
        return read(record)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise CorruptStateError(f"the record of {where} is damaged: {error}") from error
