"""Makes bytes and messages that nobody should send, from a seed: mutated, absurd, random.

Rule of this file: the same dice make the same bytes, on every machine.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    65_535,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
TEXTS = (
    "",
    "/",
    "//",
    "/a",
    "/a/b",
    "/a/",
    "a",
    "b",
    "c",
    "/\x00",
    "/..",
    "/zookeeper",
    "/" + "x" * 5_000,
    "/\U0001f512",
    "nobody",
    "\ufeff",
)
SECONDS_EACH = "FUZZ_SECONDS_EACH"  # environment; see conftest.py
_DEPTH_MAX = 5
_SIGNED_MAX = {
    FieldDescriptor.CPPTYPE_INT32: 1 << 31,
    FieldDescriptor.CPPTYPE_INT64: 1 << 63,
}
_UNSIGNED_MAX = {FieldDescriptor.CPPTYPE_UINT32: 1 << 32, FieldDescriptor.CPPTYPE_UINT64: 1 << 64}


def rounds(dice_seed: int, default: int) -> Iterator[random.Random]:
    """Yield dice for each round: `default` of them, or as many as `make fuzz` gives each test time for."""
    seconds = float(os.environ.get(SECONDS_EACH, "0"))
    until = time.monotonic() + seconds
    base = random.SystemRandom().randrange(1 << 48) if seconds else dice_seed
    number = 0
    while number < default or time.monotonic() < until:
        yield random.Random(f"{base} {number}")
        number += 1


def mutated(dice: random.Random, original: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Do one to four wrong things to the bytes."""
    data = bytearray(original)
    for _ in range(dice.randint(1, 4)):
        _mutate_once(dice, data, others)
    return bytes(data)


def _mutate_once(dice: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = dice.randrange(len(data) + 1)
    end = min(len(data), place + dice.choice((1, 2, 4, 8, 30)))
    kind = dice.randrange(8)
    if kind == 0 and data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == 1:
        del data[place:end]
    elif kind == 2:
        data[place:place] = dice.randbytes(dice.randint(1, 8))
    elif kind == 3:
        data[place:place] = data[place:end]
    elif kind == 4:
        width = dice.choice((1, 2, 4, 8))
        number = dice.choice(NUMBERS) % (1 << 8 * width)
        data[place : place + width] = number.to_bytes(width, "big")
    elif kind == 5:
        del data[place:]
    elif kind == 6 and others:
        data[place:] = dice.choice(others)[place:]
    else:
        data[place:end] = b"\xff" * (end - place)


def absurd_message(dice: random.Random, kind: type[Message], depth: int = 0) -> Message:
    """Make a well-formed message whose fields hold what nobody expects, or nothing."""
    descriptor = kind.DESCRIPTOR
    assert isinstance(descriptor, Descriptor)
    return _fill(dice, descriptor, depth)


def _fill(dice: random.Random, descriptor: Descriptor, depth: int) -> Message:
    message = GetMessageClass(descriptor)()
    likely = dice.choice((0.2, 0.5, 0.9))
    for field in descriptor.fields:
        if dice.random() > likely:
            continue
        if field.is_repeated:
            count = dice.choice((0, 1, 1, 2, 5))
            _extend(dice, message, field, count, depth)
        elif field.message_type is not None:
            if depth < _DEPTH_MAX:
                getattr(message, field.name).CopyFrom(_fill(dice, field.message_type, depth + 1))
        else:
            setattr(message, field.name, _scalar(dice, field))
    return message


def _extend(dice: random.Random, message: Message, field: FieldDescriptor, count: int, depth: int) -> None:
    values = getattr(message, field.name)
    if field.message_type is None:
        values.extend(_scalar(dice, field) for _ in range(count))
    elif field.message_type.GetOptions().map_entry:
        return
    elif depth < _DEPTH_MAX:
        values.extend(_fill(dice, field.message_type, depth + 1) for _ in range(count))


def _scalar(dice: random.Random, field: FieldDescriptor) -> object:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return dice.randbytes(dice.choice((0, 1, 16, 100)))
        return dice.choice(TEXTS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return dice.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        known = [value.number for value in field.enum_type.values]
        return dice.choice([*known, 99])
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return dice.choice((0.0, -1.0, 1e308, float("inf")))
    number = dice.choice((dice.choice(NUMBERS), dice.randrange(20)))
    if kind in _SIGNED_MAX:
        limit = _SIGNED_MAX[kind]
        return (number + limit) % (2 * limit) - limit if dice.random() < 0.7 else -1 - number % limit
    return number % _UNSIGNED_MAX[kind]
