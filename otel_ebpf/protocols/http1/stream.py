"""Stream: the bytes of one direction at their positions, some of which were never captured.

In: runs of bytes with their position and times, in order. Out: what is captured at the front, and when a position
passed. Bytes are dropped as soon as they are consumed; what may wait is bounded.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WAITING_BYTES: Final = 262144
"""Captured bytes that may wait in one direction.

Two reads of 64 KiB of pipelined messages and a head of 64 KiB, with room to spare. More is kept as a gap.
"""

MAX_MARKS: Final = 4096
"""Calls whose times are remembered: a head of 64 KiB that comes in pieces of 16 bytes.

Further calls share the time of the last.
"""


class Mark(NamedTuple):
    """One call, or the several calls of one captured run: positions *start* to *end*, and when they passed."""

    start: int
    end: int
    first_ns: int
    last_ns: int


class Stream:
    """Bytes ``begin`` to ``end`` of one direction are known of and not consumed."""

    __slots__ = ("_marks", "_runs", "_tail", "begin", "end", "waiting_bytes")

    def __init__(self, position: int) -> None:
        self.begin = position
        self.end = position
        self._runs: deque[tuple[int, bytearray]] = deque()
        self._marks: deque[Mark] = deque()
        self.waiting_bytes = 0
        self._tail: tuple[int, bytes] = (position, b"")

    def put(self, data: bytes, end: int, first_ns: int, last_ns: int) -> bool:
        """Add what stands between ``self.end`` and *end*: *data*, then a gap if *data* is shorter.

        Returns False when there was no room for *data*, which then is a gap.
        """
        start = self.end
        if end <= start:
            return True
        room = self.waiting_bytes + len(data) <= MAX_WAITING_BYTES
        if data and room:
            self._append(start, data[: end - start])
        self._mark(Mark(start, end, first_ns, last_ns))
        self.end = end
        return room

    def put_tail(self, tail: bytes) -> None:
        """Note the last bytes before ``self.end``, which may lie in a gap or be consumed already."""
        self._tail = (self.end, tail)

    def front(self) -> bytearray:
        """The captured bytes at ``begin``; empty when there are none."""
        if self._runs and self._runs[0][0] == self.begin:
            return self._runs[0][1]
        return bytearray()

    def gap(self) -> int:
        """How many bytes behind ``begin`` are known of but not captured, up to the next captured ones."""
        if self._runs:
            return self._runs[0][0] - self.begin
        return self.end - self.begin

    def consume(self, size: int) -> None:
        """Drop the next *size* bytes, captured or not."""
        self.begin += size
        while self._runs and self._runs[0][0] < self.begin:
            start, data = self._runs.popleft()
            used = min(len(data), self.begin - start)
            self.waiting_bytes -= used
            if used < len(data):
                del data[:used]
                self._runs.appendleft((start + used, data))
        while len(self._marks) > 1 and self._marks[0].end <= self.begin:
            self._marks.popleft()

    def first_ns(self) -> int:
        """When the byte at ``begin`` passed; 0 when nothing is known of it."""
        return next((mark.first_ns for mark in self._marks if mark.start <= self.begin < mark.end), 0)

    def last_ns(self, position: int) -> int:
        """When the byte before *position* passed at the latest; the nearest call known when that one is forgotten."""
        nearest = 0
        for mark in self._marks:
            nearest = mark.last_ns
            if position <= mark.end:
                break
        return nearest

    def calls(self) -> Iterator[int]:
        """Yield the positions, from ``begin`` on, where a call began."""
        return (mark.start for mark in self._marks if mark.start >= self.begin)

    def captured_at(self, position: int) -> bytes:
        """The captured bytes from *position* on; empty when there are none."""
        for start, data in self._runs:
            if start <= position < start + len(data):
                return bytes(data[position - start :])
        return b""

    def call_ending_with(self, mark: bytes) -> int:
        """Position behind the first call, not consumed yet, whose known bytes end with *mark*; -1: there is none."""
        for call in self._marks:
            before = call.end - len(mark)
            if before >= self.begin and self.captured_at(before).startswith(mark):
                return call.end
        end, tail = self._tail
        return end if end > self.begin and tail.endswith(mark) else -1

    def _append(self, start: int, data: bytes) -> None:
        self.waiting_bytes += len(data)
        if self._runs:
            last_start, last = self._runs[-1]
            if last_start + len(last) == start:
                last += data
                return
        self._runs.append((start, bytearray(data)))

    def _mark(self, mark: Mark) -> None:
        if len(self._marks) < MAX_MARKS:
            self._marks.append(mark)
        else:
            self._marks[-1] = self._marks[-1]._replace(end=mark.end, last_ns=mark.last_ns)
