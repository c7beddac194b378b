"""A reader of BTF, the kernel's description of its own types, in pure Python.

In: the bytes of ``/sys/kernel/btf/vmlinux`` or of a module (split BTF; ``Documentation/bpf/btf.rst`` of the kernel).
Out: types by name, their members, sizes and parameters. The input is checked: whatever it holds, the worst is a
:class:`BtfError`.
"""

from __future__ import annotations

import array
import mmap
import os
import struct
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_ebpf.errors import CannotRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")  # struct btf_header
_POINTER_BYTES: Final = 8
_DEPTH: Final = 64  # nesting of types: vmlinux has 12; garbage may be circular


class BtfError(CannotRun):
    """The type information cannot be read, or is not what it should be."""


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


AGGREGATES: Final = (Kind.STRUCT, Kind.UNION)
ENUMS: Final = (Kind.ENUM, Kind.ENUM64)

# Words behind the three of struct btf_type, by kind: a fixed part, and one part for each of vlen.
_FIXED_WORDS: Final = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_WORDS_EACH: Final = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
_QUALIFIERS: Final = frozenset((Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG))
_SIZED: Final = frozenset((Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT))

_INT_SIGNED: Final = 1 << 24
_INT_BOOL: Final = 4 << 24


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union; *bits* is 0 unless it is a bit field."""

    name: str
    type_id: int
    bit_offset: int
    bits: int


class _RecordWords(dict[int, int]):
    """Words of a type record by its info word: only a few hundred differ, so each is worked out once."""

    def __missing__(self, info: int) -> int:
        number = info >> 24 & 31
        if not Kind.INT <= number <= Kind.ENUM64:
            raise BtfError(f"BTF is damaged, or newer than this program: it has types of kind {number}")
        kind = Kind(number)
        words = 3 + _FIXED_WORDS.get(kind, 0) + _WORDS_EACH.get(kind, 0) * (info & 0xFFFF)
        self[info] = words
        return words


@dataclass(frozen=True, slots=True)
class _Blob:
    """One file of BTF, looked through once.

    Attributes:
        words: The type section as 32-bit words.
        offsets: Where in them each type's record begins, in order of type ids; every record lies whole inside.
        first_id: Id of the first type.
        strings: Where in *data* the strings stand.
        first_string: Offset that names the first of them.
    """

    data: bytes | mmap.mmap
    words: memoryview
    offsets: array.array[int]
    first_id: int
    strings: range
    first_string: int

    @property
    def end_id(self) -> int:
        """Id after the last type."""
        return self.first_id + len(self.offsets)

    @property
    def end_string(self) -> int:
        """Offset after the last string."""
        return self.first_string + len(self.strings)

    def string_offset(self, name: str) -> int | None:
        """Return the offset that names *name*, None when no string is equal to it."""
        raw, strings = name.encode() + b"\0", self.strings
        if self.data[strings.start : strings.start + len(raw)] == raw:
            return self.first_string  # the first string of split BTF has no NUL before it
        at = self.data.find(b"\0" + raw, strings.start, strings.stop)
        return None if at < 0 else self.first_string + at + 1 - strings.start


class Btf:
    """The types of one BTF blob; of a module together with those of vmlinux, its *base*.

    Raises:
        BtfError: The data are not BTF.
    """

    def __init__(self, data: bytes | mmap.mmap, base: Btf | None = None) -> None:
        before = base.blobs if base else ()
        types, strings = _sections(data, split=bool(before))
        words = memoryview(data)[types.start : types.stop].cast("I")
        first_id, first_string = (before[-1].end_id, before[-1].end_string) if before else (1, 0)
        self._own = _Blob(data, words, _record_offsets(words), first_id, strings, first_string)
        self.blobs: tuple[_Blob, ...] = (*before, self._own)

    @classmethod
    def load(cls, path: Path = VMLINUX, base: Btf | None = None) -> Btf:
        """Read the BTF file at *path*, mapped where the kernel allows it (6.16 and later).

        Raises:
            BtfError: There is no such file, or it is not BTF.
        """
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                try:
                    return cls(mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ), base)
                except (OSError, ValueError):
                    return cls(file.read(), base)
        except FileNotFoundError:
            raise BtfError(f"this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): no {path}") from None
        except OSError as error:
            raise BtfError(f"{path} cannot be read: {error.strerror}") from None

    # -- finding -----------------------------------------------------------------------------------------------------

    def find(self, names: Iterable[str], kinds: Iterable[Kind]) -> dict[tuple[str, Kind], int]:
        """Find many names in one pass over this blob's own types; of several types with one name the first counts."""
        wanted = {offset: name for name in names for offset in self._string_offsets(name)}
        numbers = frozenset(kinds)
        found: dict[tuple[str, Kind], int] = {}
        own = self._own
        for index, name_offset in enumerate(map(own.words.__getitem__, own.offsets)):
            if name_offset in wanted:
                number = own.words[own.offsets[index] + 1] >> 24 & 31
                if number in numbers:
                    found.setdefault((wanted[name_offset], Kind(number)), own.first_id + index)
        return found

    def _string_offsets(self, name: str) -> Iterator[int]:
        """Offsets of *name*, in the own strings and in the base's; it may stand in either."""
        for blob in self.blobs:
            offset = blob.string_offset(name)
            if offset is not None:
                yield offset

    # -- one type ----------------------------------------------------------------------------------------------------

    def kind(self, type_id: int) -> Kind:
        """Kind of a type; id 0 is ``void``."""
        if type_id == 0:
            return Kind.VOID
        words, at = self._record(type_id)
        return Kind(words[at + 1] >> 24 & 31)

    def name(self, type_id: int) -> str:
        """Name of a type; empty when it has none."""
        if type_id == 0:
            return "void"
        words, at = self._record(type_id)
        return self._string(words[at])

    def target(self, type_id: int) -> int:
        """Type that a pointer, typedef, qualifier or function refers to."""
        words, at = self._record(type_id)
        return words[at + 2]

    def strip(self, type_id: int) -> int:
        """Type behind typedefs and qualifiers."""
        for _ in range(_DEPTH):
            if self.kind(type_id) not in _QUALIFIERS:
                return type_id
            type_id = self.target(type_id)
        raise BtfError("BTF is damaged: a typedef refers to itself")

    def size(self, type_id: int) -> int:
        """Size of a type in bytes; 0 of types without one."""
        count = 1
        for _ in range(_DEPTH):
            type_id = self.strip(type_id)
            kind = self.kind(type_id)
            if kind is Kind.ARRAY:
                type_id, length = self.array(type_id)
                count *= length
            elif kind is Kind.PTR:
                return count * _POINTER_BYTES
            else:
                words, at = self._record(type_id) if type_id else (self._own.words, 0)
                return count * words[at + 2] if kind in _SIZED else 0
        raise BtfError("BTF is damaged: an array contains itself")

    def array(self, type_id: int) -> tuple[int, int]:
        """Element type and number of elements of an array."""
        words, at = self._record(type_id, Kind.ARRAY)
        return words[at + 3], words[at + 5]

    def integer(self, type_id: int) -> tuple[int, bool, bool]:
        """Size in bytes, signed, bool: of an integer."""
        words, at = self._record(type_id, Kind.INT)
        encoding = words[at + 3]
        return words[at + 2], bool(encoding & _INT_SIGNED), bool(encoding & _INT_BOOL)

    def kind_flag(self, type_id: int) -> bool:
        """``kind_flag``: a signed enum, a forward declaration of a union."""
        words, at = self._record(type_id)
        return bool(words[at + 1] >> 31)

    def members(self, type_id: int) -> Iterator[Member]:
        """Members of a struct or union in order."""
        words, at = self._record(type_id, *AGGREGATES)
        info = words[at + 1]
        for entry in range(at + 3, at + 3 + 3 * (info & 0xFFFF), 3):
            where = words[entry + 2]
            bits = where >> 24 if info >> 31 else 0
            yield Member(self._string(words[entry]), words[entry + 1], where & 0xFFFFFF if info >> 31 else where, bits)

    def member(self, type_id: int, name: str) -> Member | None:
        """Find a member by name, also inside anonymous structs and unions; its offset counts from *type_id*."""
        waiting, seen = [(type_id, 0)], {type_id}
        while waiting:
            outer, base = waiting.pop()
            for one in self.members(outer):
                if one.name == name:
                    return Member(name, one.type_id, base + one.bit_offset, one.bits)
                inner = self.strip(one.type_id)
                if not one.name and inner not in seen and self.kind(inner) in AGGREGATES:
                    seen.add(inner)
                    waiting.append((inner, base + one.bit_offset))
        return None

    def enum_values(self, type_id: int) -> Iterator[tuple[str, int]]:
        """Names and values of an enum."""
        words, at = self._record(type_id, *ENUMS)
        info = words[at + 1]
        wide = info >> 24 & 31 == Kind.ENUM64
        step, bits = (3, 64) if wide else (2, 32)
        for entry in range(at + 3, at + 3 + step * (info & 0xFFFF), step):
            value = words[entry + 1] | (words[entry + 2] << 32 if wide else 0)
            if info >> 31 and value >> bits - 1:
                value -= 1 << bits
            yield self._string(words[entry]), value

    def parameters(self, type_id: int) -> list[str]:
        """Parameter names of a function, function pointer or prototype; empty strings where it has none."""
        for _ in range(_DEPTH):
            kind = self.kind(type_id)
            if kind is Kind.FUNC_PROTO:
                words, at = self._record(type_id)
                count = words[at + 1] & 0xFFFF
                return [self._string(words[entry]) for entry in range(at + 3, at + 3 + 2 * count, 2)]
            if kind is not Kind.FUNC and kind is not Kind.PTR and kind not in _QUALIFIERS:
                break
            type_id = self.target(type_id)
        raise BtfError("BTF is damaged: a function without a prototype")

    # -- raw access --------------------------------------------------------------------------------------------------

    def _record(self, type_id: int, *kinds: Kind) -> tuple[memoryview, int]:
        """Words of the blob that holds a type, and the index of its record in them."""
        for blob in self.blobs:
            if blob.first_id <= type_id < blob.end_id:
                at = blob.offsets[type_id - blob.first_id]
                if kinds and blob.words[at + 1] >> 24 & 31 not in kinds:
                    raise BtfError(f"BTF is damaged: type {type_id} is not of kind {kinds[0].name}")
                return blob.words, at
        raise BtfError(f"BTF is damaged: there is no type {type_id}")

    def _string(self, offset: int) -> str:
        for blob in self.blobs:
            if blob.first_string <= offset < blob.end_string:
                start = blob.strings.start + offset - blob.first_string
                return bytes(blob.data[start : blob.data.find(b"\0", start)]).decode(errors="replace")
        raise BtfError(f"BTF is damaged: there is no string {offset}")


def _sections(data: bytes | mmap.mmap, *, split: bool) -> tuple[range, range]:
    """Check the header; return where the types and the strings stand in *data*."""
    if len(data) < _HEADER.size:
        raise BtfError("BTF is damaged: it is shorter than its header")
    magic, version, _, header, type_at, type_bytes, string_at, string_bytes = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != 1 or sys.byteorder != "little":
        raise BtfError("not BTF of a little-endian machine, version 1")
    types = range(header + type_at, header + type_at + type_bytes)
    strings = range(header + string_at, header + string_at + string_bytes)
    if header < _HEADER.size or types.stop > len(data) or strings.stop > len(data) or type_bytes % 4:
        raise BtfError("BTF is damaged: it is shorter than its header says")
    if (string_bytes and data[strings.stop - 1]) or (not split and (not string_bytes or data[strings.start])):
        raise BtfError("BTF is damaged: its strings have no end")
    return types, strings


def _record_offsets(words: memoryview) -> array.array[int]:
    """Word offset of each type record, in order of type ids; every record lies whole inside *words*."""
    offsets = array.array("I")
    add, step = offsets.append, _RecordWords()
    at, end = 0, len(words)
    try:
        while at < end:  # 126,000 rounds: the one loop here whose speed can be felt
            add(at)
            at += step[words[at + 1]]
    except IndexError:
        at = -1
    if at != end:
        raise BtfError("BTF is damaged: its last type is cut off")
    return offsets
