"""The protocol buffer wire format, as far as OTLP needs it (protobuf.dev, "Encoding").

In: Python values. Out: bytes. Assembling them from parts that seldom change is what makes a record cost 2 µs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

Value = str | bool | int | float | tuple[str, ...]
"""What an attribute may hold; a tuple is an array of strings."""

Attributes = tuple[tuple[str, Value], ...]
"""Attributes in the order they are sent."""

_U64: Final = (1 << 64) - 1


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def varint(number: int) -> bytes:
    """Encode an unsigned number, or a signed one as two's complement of 64 bits."""
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= _U64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, kind: int) -> bytes:
    """Return the tag of field number *field* with wire type *kind*."""
    return varint(field << 3 | kind)


def lengthy(field: int, payload: bytes) -> bytes:
    """Encode a length-delimited field: bytes, text or a message."""
    return tag(field, LENGTH) + varint(len(payload)) + payload


def text(field: int, value: str) -> bytes:
    """Encode a string field; lone surrogates become ``?``, since OTLP strings are UTF-8."""
    return lengthy(field, value.encode("utf-8", "replace"))


def fixed64(field: int, value: int) -> bytes:
    """Encode a fixed64 field."""
    return tag(field, FIXED64) + struct.pack("<Q", value)


def double(field: int, value: float) -> bytes:
    """Encode a double field."""
    return tag(field, FIXED64) + struct.pack("<d", value)


def any_value(value: Value) -> bytes:
    """Encode ``opentelemetry.proto.common.v1.AnyValue``."""
    match value:
        case str():
            return text(1, value)
        case bool():
            return tag(2, VARINT) + varint(value)
        case int():
            return tag(3, VARINT) + varint(value)
        case float():
            return double(4, value)
        case tuple():
            return lengthy(5, b"".join(lengthy(1, any_value(item)) for item in value))


@lru_cache(maxsize=256)  # our own keys, and those of Resources
def _key(key: str) -> bytes:
    return text(1, key)


def pair(key: str, value: Value) -> bytes:
    """Encode a ``KeyValue`` with its length, without the tag of the field that holds it."""
    head = _key(key)
    if type(value) is str:  # nearly all of them, and nearly always so short that every length is one byte
        raw = value.encode("utf-8", "replace")
        whole = len(head) + len(raw) + 4
        if whole < 0x80:
            return b"%c%b\x12%c\x0a%c%b" % (whole, head, len(raw) + 2, len(raw), raw)
    payload = head + lengthy(2, any_value(value))
    return varint(len(payload)) + payload


def pairs(attributes: Iterable[tuple[str, Value]]) -> list[bytes]:
    """Encode attributes as ``tagged`` wants them."""
    return [pair(key, value) for key, value in attributes]


def tagged(field: int, encoded: list[bytes]) -> bytes:
    """Return encoded pairs, each as field *field*: the same pairs serve a log record and a span."""
    head = tag(field, LENGTH)
    return head + head.join(encoded) if encoded else b""


def key_value(field: int, key: str, value: Value) -> bytes:
    """Encode a ``KeyValue`` as field *field* of the message that holds it."""
    return tag(field, LENGTH) + pair(key, value)


def key_values(field: int, attributes: Iterable[tuple[str, Value]]) -> bytes:
    """Encode attributes, each as field *field*."""
    return tagged(field, pairs(attributes))


def double_prefix(field: int, key: str) -> bytes:
    """Return all of a ``KeyValue`` of a double but its last eight bytes: its length never changes."""
    return key_value(field, key, 0.0)[:-8]


class Cached(dict[int | None, bytes]):
    """Bytes made from small numbers, kept; look-ups cost one dict access. Never larger than *limit*.

    What is not known, None, has no bytes.

    Args:
        make: From the number to its bytes.
        limit: Most entries; 4,096 covers the sizes and ports that repeat in about half a megabyte.
    """

    def __init__(self, make: Callable[[int], bytes], limit: int = 4096) -> None:
        super().__init__()
        self._make = make
        self._limit = limit
        self[None] = b""

    def __missing__(self, number: int) -> bytes:
        made = self._make(number)
        if len(self) < self._limit:
            self[number] = made
        return made


def cached_attribute(field: int, key: str, limit: int = 4096) -> Cached:
    """Return the bytes of an integer attribute by its value, which is not negative."""
    one, two, three = (key_value(field, key, 1 << 7 * size - 1)[:-size] for size in (1, 2, 3))

    def make(number: int) -> bytes:
        """Encode; up to 2 MiB without the loop of ``varint``, since sizes of bodies seldom repeat."""
        if number < 0x80:
            return one + _SMALL[number]
        if number < 0x4000:
            return two + bytes((number & 0x7F | 0x80, number >> 7))
        if number < 0x200000:
            return three + bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
        return key_value(field, key, number)

    return Cached(make, limit)


def cached_prefix(field: int, limit: int = 4096) -> Cached:
    """Return tag and length of a length-delimited field by its length."""
    head = tag(field, LENGTH)
    return Cached(lambda number: head + varint(number), limit)
