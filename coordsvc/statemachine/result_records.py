"""The record of the answer to one write, kept until the client has acknowledged it.

Rule of this file: what was answered once comes back as an equal value, however often it is asked for.
"""

from __future__ import annotations

from struct import Struct

from coordsvc.statemachine.encoding import (
    FORMAT,
    Reader,
    blob,
    decode,
    expect_format,
    length,
    number,
    optional,
    text,
)
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
from coordsvc.statemachine.znodes import pack_stat

_RESULT = Struct(">Bq")  # format, zxid
_FORMAT_BYTE = bytes((FORMAT,))
_ERROR_CODES = {int(code): code for code in ErrorCode}

# What kind of result follows. Kept for ever: these bytes are on disks.
_CREATED = b"\x01"
_WAS_SET = b"\x02"
_DELETED = b"\x03"
_CHECKED = b"\x04"
_NODE = b"\x05"
_EXISTS = b"\x06"
_CHILDREN = b"\x07"
_TRANSACTION = b"\x08"
_FAILURE = b"\x09"
_NO = b"\x00"
_YES = b"\x01"


def encode_result(zxid: int, result: WriteResult) -> bytes:
    return _RESULT.pack(FORMAT, zxid) + _encode_outcome(result)


def _encode_outcome(result: OpResult | TransactionResult | Failure) -> bytes:
    # The first two are nearly all there are, and a `match` would take as long as the packing.
    if isinstance(result, WasSet):
        return _WAS_SET + pack_stat(result.stat)
    if isinstance(result, Created):
        return _CREATED + pack_stat(result.stat) + text(result.path)
    match result:
        case Deleted(count):
            return _DELETED + number(count)
        case Checked():
            return _CHECKED
        case Node():
            return _NODE + _encode_node(result)
        case ExistsResult(stat):
            return _EXISTS + _NO if stat is None else _EXISTS + _YES + pack_stat(stat)
        case Children():
            return _CHILDREN + _encode_children(result)
        case TransactionResult(succeeded, results):
            parts = [_TRANSACTION, _YES if succeeded else _NO, length(len(results))]
            parts.extend(_encode_outcome(each) for each in results)
            return b"".join(parts)
        case Failure():
            return _FAILURE + _encode_failure(result)


def _encode_node(node: Node) -> bytes:
    return text(node.path) + blob(node.value) + pack_stat(node.stat)


def _encode_children(page: Children) -> bytes:
    parts = [length(len(page.names))]
    parts.extend(text(name) for name in page.names)
    parts.append(length(len(page.nodes)))
    parts.extend(_encode_node(node) for node in page.nodes)
    parts.append(pack_stat(page.stat))
    parts.append(_YES if page.more else _NO)
    return b"".join(parts)


def _encode_failure(failure: Failure) -> bytes:
    return b"".join(
        (
            bytes((failure.code,)),
            text(failure.message),
            text(failure.path),
            optional(failure.expected_version),
            optional(failure.actual_version),
            optional(failure.failed_index),
            blob(bytes(failure.op_codes)),
        )
    )


def encode_results(results: list[bytes]) -> bytes:
    """Make one record of encoded results, whose sequences follow one another."""
    parts = [_FORMAT_BYTE]
    for result in results:
        parts += (length(len(result)), result)
    return b"".join(parts)


def decode_results(where: str, record: bytes) -> list[tuple[int, WriteResult, int]]:
    """Return the zxid, the result, and the size in bytes of each result of a record."""
    return decode(where, record, _read_results)


def _read_results(record: bytes) -> list[tuple[int, WriteResult, int]]:
    reader = Reader(record, 1)
    expect_format(record[0])
    results = []
    while not reader.is_at_end():
        encoded = reader.blob()
        results.append((*_read_result(encoded), len(encoded)))
    if not results:
        raise ValueError("it holds no result")
    return results


def decode_result(where: str, record: bytes) -> tuple[int, WriteResult]:
    """Return the zxid and the result."""
    return decode(where, record, _read_result)


def _read_result(record: bytes) -> tuple[int, WriteResult]:
    version, zxid = _RESULT.unpack_from(record)
    expect_format(version)
    reader = Reader(record, _RESULT.size)
    result = _read_outcome(reader)
    reader.end()
    if isinstance(result, Checked | Node | ExistsResult | Children):
        raise ValueError("a read is not the result of a write")
    return zxid, result


def _read_outcome(reader: Reader) -> OpResult | TransactionResult | Failure:
    kind = reader.take(1)
    if kind == _TRANSACTION:
        succeeded = reader.flag()
        return TransactionResult(
            succeeded, [_read_operation(reader, reader.take(1)) for _ in range(reader.count())]
        )
    if kind == _FAILURE:
        return _read_failure(reader)
    return _read_operation(reader, kind)


def _read_operation(reader: Reader, kind: bytes) -> OpResult:
    if kind == _CREATED:
        stat = reader.stat()
        return Created(reader.text(), stat)
    if kind == _WAS_SET:
        return WasSet(reader.stat())
    if kind == _DELETED:
        return Deleted(reader.number())
    if kind == _CHECKED:
        return Checked()
    if kind == _NODE:
        return _read_node(reader)
    if kind == _EXISTS:
        return ExistsResult(reader.stat() if reader.flag() else None)
    if kind == _CHILDREN:
        names = [reader.text() for _ in range(reader.count())]
        nodes = [_read_node(reader) for _ in range(reader.count())]
        return Children(names, nodes, reader.stat(), reader.flag())
    raise ValueError(f"unknown kind of result {kind!r}")


def _read_node(reader: Reader) -> Node:
    path = reader.text()
    return Node(path, reader.blob(), reader.stat())


def _read_failure(reader: Reader) -> Failure:
    return Failure(
        code=_ERROR_CODES[reader.take(1)[0]],
        message=reader.text(),
        path=reader.text(),
        expected_version=reader.optional(),
        actual_version=reader.optional(),
        failed_index=reader.optional(),
        op_codes=[_ERROR_CODES[code] for code in reader.blob()],
    )
