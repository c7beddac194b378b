"""Builds BTF blobs for tests, record by record (``Documentation/bpf/btf.rst`` of the kernel)."""

from __future__ import annotations

import struct

from otel_ebpf.kernel.btf import Kind


class BtfBlob:
    """A BTF blob in the making; every method that adds a type returns its id."""

    def __init__(self, first_id: int = 1, first_string: int = 0) -> None:
        self._types = b""
        self._first_string = first_string
        self._strings = b"" if first_string else b"\0"
        self.next_id = first_id

    @property
    def end_string(self) -> int:
        """Offset after the last string: the first of a blob that is split from this one."""
        return self._first_string + len(self._strings)

    def string(self, text: str) -> int:
        """Add a string; return its offset. The empty one is always there."""
        if not text:
            return 0
        offset = self.end_string
        self._strings += text.encode() + b"\0"
        return offset

    def add(self, kind: Kind, name: str, last_word: int, *words: int, vlen: int = 0, flag: bool = False) -> int:
        """Add any type: *last_word* is its size or the type it refers to, *words* what stands behind."""
        info = int(kind) << 24 | vlen | int(flag) << 31
        self._types += struct.pack(f"<{3 + len(words)}I", self.string(name), info, last_word, *words)
        self.next_id += 1
        return self.next_id - 1

    def integer(self, name: str, size: int, *, signed: bool = False, boolean: bool = False) -> int:
        """Add an integer of *size* bytes."""
        return self.add(Kind.INT, name, size, int(signed) << 24 | int(boolean) << 26 | size * 8)

    def pointer(self, target: int) -> int:
        """Add a pointer to a type."""
        return self.add(Kind.PTR, "", target)

    def array(self, element: int, length: int) -> int:
        """Add an array."""
        return self.add(Kind.ARRAY, "", 0, element, 0, length)

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int] | tuple[str, int, int, int], union: bool = False
    ) -> int:
        """Add a struct from (name, type, offset in bits, bits of a bit field)."""
        flag = any(len(member) == 4 for member in members)
        words: list[int] = []
        for member_name, type_id, offset, *bits in members:
            words += (self.string(member_name), type_id, offset | (bits[0] << 24 if bits else 0))
        return self.add(Kind.UNION if union else Kind.STRUCT, name, size, *words, vlen=len(members), flag=flag)

    def enum(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        """Add an enum of 4 bytes."""
        words = [word for text, value in values for word in (self.string(text), value & 0xFFFFFFFF)]
        return self.add(Kind.ENUM, name, 4, *words, vlen=len(values), flag=signed)

    def enum64(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        """Add an enum of 8 bytes."""
        words: list[int] = []
        for text, value in values:
            words += (self.string(text), value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)
        return self.add(Kind.ENUM64, name, 8, *words, vlen=len(values), flag=signed)

    def prototype(self, *parameters: tuple[str, int]) -> int:
        """Add a function prototype that returns nothing."""
        words = [word for name, type_id in parameters for word in (self.string(name), type_id)]
        return self.add(Kind.FUNC_PROTO, "", 0, *words, vlen=len(parameters))

    def function(self, name: str, *parameters: tuple[str, int]) -> int:
        """Add a function and its prototype."""
        return self.add(Kind.FUNC, name, self.prototype(*parameters))

    def bytes(self) -> bytes:
        """Return the whole blob."""
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._types), len(self._types), len(self._strings))
        return header + self._types + self._strings
