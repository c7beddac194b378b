"""Recordings: raw kernel records and what they meant on their machine, in one file.

In: batches as the kernel gave them, facts as the machine told them. Out: the same batches and facts, on any machine,
without privileges. The file is a line of text, a line of JSON, then frames: one byte what it is, four bytes its length
(little-endian), its zlib-compressed content.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from otel_ebpf.errors import RecordingError
from otel_ebpf.kernel import layout
from otel_ebpf.records import Batch, RecordSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"otel-ebpf recording 1\n"
SALT_BYTES: Final = 16
MAX_FRAME_BYTES: Final = 1 << 28  # a ring is at most this large; anything longer is no recording
_FRAME: Final = struct.Struct("<cI")
_BATCH: Final = struct.Struct("<QIII")  # time, bytes of ring, of flows, of counters
_NOT_READ: Final = 0xFFFFFFFF  # length of a part that was not read this time

_IS_BATCH: Final = b"B"
_IS_FACTS: Final = b"F"
_IS_LISTENERS: Final = b"L"


@dataclass(slots=True)
class Recording:
    """What a file holds, apart from its batches.

    Attributes:
        started_ns: When the agent that recorded began, ns since boot.
        offset_ns: What turns its monotonic times into Unix time.
        salt: What its trace ids were made from, 16 bytes.
        listeners: Rows of ``struct listener`` found at the start.
        facts: What ``FactLog.as_json`` gave; empty when the recording was cut short.
    """

    started_ns: int
    offset_ns: int
    salt: bytes
    listeners: bytes = b""
    facts: dict[str, Any] = field(default_factory=dict)


class RecordingWriter:
    """Writes one recording; the file is usable up to the last whole frame whenever the process ends."""

    def __init__(self, file: IO[bytes], header: Recording) -> None:
        self._file = file
        file.write(MAGIC)
        line = {
            "layout": layout_id(),
            "offset_ns": header.offset_ns,
            "salt": header.salt.hex(),
            "started_ns": header.started_ns,
        }
        file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
        self._frame(_IS_LISTENERS, header.listeners)

    def batch(self, batch: Batch) -> None:
        """Append one batch, one that holds nothing as well (30 bytes): what is due at its time is due in the replay."""
        counters = None if batch.counters is None else struct.pack(f"<{len(batch.counters)}Q", *batch.counters)
        head = _BATCH.pack(batch.time_ns, len(batch.ring), _length(batch.flows), _length(counters))
        self._frame(_IS_BATCH, head + batch.ring + (batch.flows or b"") + (counters or b""))

    def facts(self, facts: dict[str, Any]) -> None:
        """Append what the machine said; the last one written stands."""
        self._frame(_IS_FACTS, json.dumps(facts, sort_keys=True).encode())

    def _frame(self, kind: bytes, content: bytes) -> None:
        packed = zlib.compress(content, 1)
        self._file.write(_FRAME.pack(kind, len(packed)))
        self._file.write(packed)


def _length(part: bytes | None) -> int:
    return _NOT_READ if part is None else len(part)


class RecordedSource:
    """A source that writes down every batch that passes."""

    def __init__(self, source: RecordSource, writer: RecordingWriter) -> None:
        self._source = source
        self._writer = writer

    def take(self, *, with_flows: bool) -> Batch:
        """Return the source's batch."""
        batch = self._source.take(with_flows=with_flows)
        self._writer.batch(batch)
        return batch


def read(path: Path) -> tuple[Recording, list[Batch]]:
    """Read a whole recording; a last frame that was cut off is left out.

    Raises:
        RecordingError: It cannot be read, or is no recording of this version.
    """
    try:
        with path.open("rb") as file:
            header = _header(file, path)
            frames = list(_frames(file, path))
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    batches = [_batch(content, path) for kind, content in frames if kind == _IS_BATCH]
    for kind, content in frames:
        if kind == _IS_FACTS:
            header.facts = _facts(content, path)
        elif kind == _IS_LISTENERS:
            header.listeners = content
    return header, batches


def _facts(content: bytes, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise RecordingError(f"{path}: its facts cannot be read") from error


def _header(file: IO[bytes], path: Path) -> Recording:
    if file.read(len(MAGIC)) != MAGIC:
        raise RecordingError(f"{path} is not a recording of this version (`otel-ebpf record` makes one)")
    try:
        line = json.loads(file.readline(1 << 20))
        made_with = line["layout"]
        found = Recording(int(line["started_ns"]), int(line["offset_ns"]), bytes.fromhex(line["salt"]))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RecordingError(f"{path}: its header cannot be read") from error
    if made_with != layout_id():
        raise RecordingError(f"{path} was recorded by another version, whose kernel records are laid out differently")
    if not (_is_time(found.started_ns) and _is_time(found.offset_ns) and len(found.salt) == SALT_BYTES):
        raise RecordingError(f"{path}: its header makes no sense; the file is damaged")
    return found


def layout_id() -> int:
    """Return a number that changes with the layout of kernel records: other ones would be misread."""
    return zlib.crc32(repr([(record.name, record.fields) for record in layout.TABLE]).encode())


def _is_time(ns: int) -> bool:
    """Tell whether a time is one that a 64-bit clock gives, and the sum of two still fits into OTLP's 64 bits."""
    return 0 <= ns < 1 << 63


def _frames(file: IO[bytes], path: Path) -> Iterator[tuple[bytes, bytes]]:
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        kind, length = _FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise RecordingError(f"{path}: a frame of {length} bytes; the file is damaged")
        packed = file.read(length)
        if len(packed) < length:
            return
        yield kind, _unpacked(packed, path)


def _unpacked(packed: bytes, path: Path) -> bytes:
    expand = zlib.decompressobj()
    try:
        content = expand.decompress(packed, MAX_FRAME_BYTES)
    except zlib.error as error:
        raise RecordingError(f"{path}: a frame cannot be unpacked; the file is damaged") from error
    if not expand.eof:
        raise RecordingError(f"{path}: a frame does not end; the file is damaged")
    return content


def _batch(content: bytes, path: Path) -> Batch:
    try:
        time_ns, *lengths = _BATCH.unpack_from(content)
    except struct.error as error:
        raise RecordingError(f"{path}: a batch is too short; the file is damaged") from error
    parts: list[bytes | None] = []
    at = _BATCH.size
    for length in lengths:
        if length == _NOT_READ:
            parts.append(None)
            continue
        parts.append(content[at : at + length])
        at += length
    if at != len(content):
        raise RecordingError(f"{path}: the lengths of a batch do not agree; the file is damaged")
    ring, flows, counters = parts
    return Batch(time_ns, ring or b"", flows, _counters(counters))


def _counters(raw: bytes | None) -> tuple[int, ...] | None:
    return None if raw is None else struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8])
