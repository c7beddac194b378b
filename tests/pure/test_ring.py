"""The ring reader: every whole record once, in order, across the end of the memory, and never an unfinished one."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.layout import RING_BUSY, RING_DISCARD, RING_HEADER_BYTES, records_in
from otel_ebpf.kernel.ring import Span

SIZE = 4096


@dataclass
class FakeRing:
    """The kernel's end of a ring: the memory mapped twice, and records that are reserved, committed or discarded."""

    consumer: int = 0
    producer: int = 0
    memory: bytearray = field(default_factory=lambda: bytearray(2 * SIZE))

    def span(self) -> Span:
        """The reader's view of the memory."""
        view = memoryview(self.memory)
        return Span(view, view.cast("I"), SIZE)

    def take(self) -> bytes:
        """Read as the agent does."""
        span = self.span()
        taken = span.take(self.consumer, self.producer)
        span.release()
        self.consumer += len(taken)
        return taken

    def reserve(self, payload: bytes) -> int | None:
        """Reserve a record, still busy; return its position, None when the ring is full."""
        room = (len(payload) + RING_HEADER_BYTES + 7) & ~7
        if self.producer + room - self.consumer > SIZE - 1:  # the kernel keeps one byte free
            return None
        at = self.producer
        self._write(at, struct.pack("<II", len(payload) | RING_BUSY, 0) + payload)
        self.producer += room
        return at

    def finish(self, at: int, *, discard: bool = False) -> None:
        """Commit or discard a reserved record."""
        (header,) = struct.unpack_from("<I", self.memory, at % SIZE)
        self._write(at, struct.pack("<I", header & ~RING_BUSY | (RING_DISCARD if discard else 0)))

    def _write(self, at: int, raw: bytes) -> None:
        for index, byte in enumerate(raw):
            place = (at + index) % SIZE
            self.memory[place] = self.memory[place + SIZE] = byte


def payloads(span: bytes) -> list[bytes]:
    """The payloads of all records of a span."""
    return [span[at : at + length] for at, length in records_in(span)]


@given(
    start=st.integers(0, 2 * SIZE).map(lambda at: at & ~7),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), st.binary(max_size=900)),
            st.tuples(st.sampled_from(["commit", "discard"]), st.integers(0, 5)),
            st.tuples(st.just("take"), st.none()),
        ),
        max_size=60,
    ),
)
def test_reads_any_sequence(start: int, steps: list[tuple[str, bytes | int | None]]) -> None:
    """Whatever the order of reserving, committing, discarding and reading: committed records come once and in order."""
    ring = FakeRing(start, start)
    reserved: deque[list[object]] = deque()  # in order: position, payload, state
    read: list[bytes] = []
    for step, value in steps:
        if step == "reserve" and isinstance(value, bytes):
            at = ring.reserve(value)
            if at is not None:
                reserved.append([at, value, "busy"])
        elif step == "take":
            read += payloads(ring.take())
        elif busy := [record for record in reserved if record[2] == "busy"]:
            assert isinstance(value, int)
            record = busy[value % len(busy)]
            assert isinstance(record[0], int)
            ring.finish(record[0], discard=step == "discard")
            record[2] = step
    finished_in_order = []
    for _, payload, state in reserved:
        if state == "busy":
            break
        if state == "commit":
            finished_in_order.append(payload)
    read += payloads(ring.take())
    assert read == finished_in_order


def test_positions_may_pass_the_end_of_64_bits() -> None:
    """The positions are counters without end; when they wrap, nothing is lost."""
    ring = FakeRing((1 << 64) - 16, (1 << 64) - 16)
    first, second = ring.reserve(b"before"), ring.reserve(b"after")
    assert first is not None
    assert second is not None
    ring.finish(first)
    ring.finish(second)
    span = ring.span().take((1 << 64) - 16, 16)
    assert payloads(span) == [b"before", b"after"]


def test_an_empty_ring_gives_nothing() -> None:
    """Nothing produced, nothing taken."""
    assert FakeRing().take() == b""


def test_stops_at_a_busy_record() -> None:
    """A record behind one that is still being written waits for it."""
    ring = FakeRing()
    first, second = ring.reserve(b"slow"), ring.reserve(b"quick")
    assert first is not None
    assert second is not None
    ring.finish(second)
    assert ring.take() == b""
    ring.finish(first)
    assert payloads(ring.take()) == [b"slow", b"quick"]


def test_a_discarded_record_stays_in_the_span_but_is_not_told() -> None:
    """The span holds its bytes, so that positions add up; records_in leaves it out."""
    ring = FakeRing()
    at = ring.reserve(b"x" * 9)
    assert at is not None
    ring.finish(at, discard=True)
    span = ring.take()
    assert len(span) == 24
    assert payloads(span) == []


@pytest.mark.parametrize("cut", range(1, 16))
def test_records_of_a_span_that_is_cut_off(cut: int) -> None:
    """A span that ends inside a record gives the whole records before it."""
    span = struct.pack("<II8s", 8, 0, b"complete") + struct.pack("<II8s", 8, 0, b"is_short")[:cut]
    assert payloads(span) == [b"complete"]


@given(st.binary(max_size=64))
def test_records_of_noise(noise: bytes) -> None:
    """Arbitrary bytes give only ranges that lie inside them."""
    assert all(at >= 0 and at + length <= len(noise) for at, length in records_in(noise))
