"""Reads a BPF ring buffer through ``mmap``, on a timer: nobody is woken per record.

In: the descriptor of the map. Out: bytes, whole records with their 8-byte headers (``kernel/bpf/ringbuf.c``); records
that the kernel side discarded are among them and marked, :func:`otel_ebpf.kernel.layout.records_in` skips them.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final, Self

from otel_ebpf.kernel.layout import RING_BUSY

if TYPE_CHECKING:
    from types import TracebackType

_LENGTH: Final = 0x3FFFFFFF
_WRAP: Final = (1 << 64) - 1


class Span:
    """The arithmetic of the ring: from positions and data to the span of whole records.

    Args:
        data: The data area, mapped twice in a row so that no record is split at its end.
        words: The same memory as 32-bit words.
    """

    def __init__(self, data: memoryview, words: memoryview, size: int) -> None:
        self._data = data
        self._words = words
        self._mask = size - 1

    def take(self, consumer: int, producer: int) -> bytes:
        """Copy the records from *consumer* up to *producer*, or up to the first that is still being written.

        The headers are looked at before anything is copied: a record that was complete then is complete in the copy.
        """
        words = self._words
        start = consumer & self._mask
        at, end = start >> 2, (start + (producer - consumer & _WRAP)) >> 2
        while at < end:
            header = words[at]
            if header & RING_BUSY:
                break
            at += ((header & _LENGTH) + 15 & ~7) >> 2
        return bytes(self._data[start : at << 2])

    def release(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._data.release()


class Ring:
    """The reading end of a ring buffer.

    Args:
        fd: Descriptor of the map; stays the caller's.
        size: ``max_entries`` of the map: bytes of the data area, a power of two.

    Raises:
        OSError: The map is no ring buffer, or of another size.
    """

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        # Page 0: the consumer's position, ours to write. Page 1: the producer's. Then the data, twice.
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        whole = memoryview(self._producer_map)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = whole[:page].cast("Q")
        self._span = Span(whole[page:], whole[page:].cast("I"), size)
        self._whole = whole
        self._size = size

    def take(self) -> bytes:
        """Return all that is complete, in order, and give its room back to the kernel."""
        consumer = self._consumer[0]
        span = self._span.take(consumer, self._producer[0])
        if span:
            self._consumer[0] = consumer + len(span) & _WRAP
        return span

    def fill_ratio(self) -> float:
        """How full the ring is now, 0 to 1."""
        return (self._producer[0] - self._consumer[0] & _WRAP) / self._size

    def close(self) -> None:
        """Unmap the memory; the descriptor stays open."""
        self._span.release()
        for view in (self._consumer, self._producer, self._whole):
            view.release()
        self._consumer_map.close()
        self._producer_map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
