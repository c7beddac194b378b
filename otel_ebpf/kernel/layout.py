"""The Python side of ``bpf/include/records.h``: one :class:`struct.Struct` per record, constants read from the header.

``TABLE`` names each field in order; ``tests/border`` compiles the header and compares every size and offset with it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Record:
    """One C struct: its name and its fields in order, each with its :mod:`struct` format."""

    name: str
    fields: tuple[tuple[str, str], ...]

    @property
    def format(self) -> str:
        """The whole record as a little-endian format without implicit padding."""
        return "<" + "".join(code for _, code in self.fields)

    def compiled(self) -> struct.Struct:
        """The record as a :class:`struct.Struct`."""
        return struct.Struct(self.format)


EDGE_KEY_RECORD: Final = Record(
    "edge_key",
    (
        ("comm", "16s"),
        ("cgroup_id", "Q"),
        ("tgid", "I"),
        ("netns", "I"),
        ("local_address", "16s"),
        ("remote_address", "16s"),
        ("server_port", "H"),
        ("family", "B"),
        ("role", "B"),
        ("reserved", "I"),
    ),
)

TURN_RECORD: Final = Record(
    "turn",
    (
        ("kind", "I"),
        ("sequence", "I"),
        ("flow_id", "Q"),
        ("edge", "72s"),
        ("local_port", "H"),
        ("remote_port", "H"),
        ("request_captured", "H"),
        ("response_captured", "H"),
        ("request_position", "Q"),
        ("response_position", "Q"),
        ("request_bytes", "Q"),
        ("response_bytes", "Q"),
        ("request_first_ns", "Q"),
        ("request_last_ns", "Q"),
        ("response_first_ns", "Q"),
        ("response_last_ns", "Q"),
        ("handshake_ns", "Q"),
        ("flags", "I"),
        ("srtt_us", "I"),
        ("retransmits", "I"),
        ("reserved", "I"),
        ("tail", "8s"),
    ),
)

SEGMENT_RECORD: Final = Record(
    "segment",
    (
        ("kind", "I"),
        ("sequence", "I"),
        ("flow_id", "Q"),
        ("position", "Q"),
        ("time_ns", "Q"),
        ("size", "I"),
        ("direction", "I"),
    ),
)

FLOW_RECORD: Final = Record(
    "flow",
    (
        ("kind", "I"),
        ("flags", "I"),
        ("id", "Q"),
        ("edge", "72s"),
        ("local_port", "H"),
        ("remote_port", "H"),
        ("protocol", "B"),
        ("state", "B"),
        ("error", "B"),
        ("sniffs", "B"),
        ("opened_ns", "Q"),
        ("established_ns", "Q"),
        ("handshake_ns", "Q"),
        ("accepted_ns", "Q"),
        ("closed_ns", "Q"),
        ("bytes_sent", "Q"),
        ("bytes_received", "Q"),
        ("packets_sent", "Q"),
        ("packets_received", "Q"),
        ("reads", "Q"),
        ("writes", "Q"),
        ("srtt_us", "I"),
        ("retransmits", "6I"),
        ("reserved", "I"),
    ),
)

LISTENER_RECORD: Final = Record(
    "listener",
    (
        ("kind", "I"),
        ("netns", "I"),
        ("port", "H"),
        ("family", "B"),
        ("reserved", "B"),
        ("tgid", "I"),
        ("address", "16s"),
    ),
)

TABLE: Final = (EDGE_KEY_RECORD, TURN_RECORD, SEGMENT_RECORD, FLOW_RECORD, LISTENER_RECORD)

EDGE_KEY: Final = EDGE_KEY_RECORD.compiled()
TURN: Final = TURN_RECORD.compiled()
SEGMENT: Final = SEGMENT_RECORD.compiled()
FLOW: Final = FLOW_RECORD.compiled()
LISTENER: Final = LISTENER_RECORD.compiled()

RING_HEADER_BYTES: Final = 8  # struct bpf_ringbuf_hdr: u32 length, u32 page offset
RING_BUSY: Final = 1 << 31
RING_DISCARD: Final = 1 << 30

_RING_HEADER: Final = struct.Struct("<I")
_RING_LENGTH: Final = RING_DISCARD - 1

_DEFINE = re.compile(r"^#define\s+([A-Z][A-Z0-9_]*)\s+(0x[0-9a-fA-F]+|\d+)\b", re.MULTILINE)


@cache
def constants() -> dict[str, int]:
    """Every number that ``records.h`` defines, by name."""
    text = bpf_directory().joinpath("include", "records.h").read_text(encoding="utf-8")
    return {name: int(value, 0) for name, value in _DEFINE.findall(text)}


def records_in(span: bytes) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each record of a span of the ring, discarded ones left out.

    Stops at a record that is unfinished or cut off: a span from :class:`~otel_ebpf.kernel.ring.Ring` has none.
    """
    at, end = 0, len(span)
    while at + RING_HEADER_BYTES <= end:
        (header,) = _RING_HEADER.unpack_from(span, at)
        length = header & _RING_LENGTH
        if header & RING_BUSY or at + RING_HEADER_BYTES + length > end:
            return
        if not header & RING_DISCARD:
            yield at + RING_HEADER_BYTES, length
        at += (length + RING_HEADER_BYTES + 7) & ~7


def bpf_directory() -> resources.abc.Traversable:
    """The folder of the BPF sources: inside the installed package, else beside it in a checkout."""
    packaged = resources.files("otel_ebpf").joinpath("bpf")
    if packaged.is_dir():
        return packaged
    return resources.files("otel_ebpf").joinpath("..", "bpf")
