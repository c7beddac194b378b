"""Capture: what the loaded kernel programs give, one batch at a time.

In: the descriptors of :class:`~otel_ebpf.kernel.handover.Loaded`. Out: :class:`~otel_ebpf.records.Batch`.
"""

from __future__ import annotations

import select
import struct
from typing import TYPE_CHECKING, Final

from otel_ebpf.kernel import bpf, layout
from otel_ebpf.kernel.iterators import read_iterator
from otel_ebpf.kernel.maps import CounterArray
from otel_ebpf.kernel.ring import Ring
from otel_ebpf.records import Batch

if TYPE_CHECKING:
    from otel_ebpf.clock import Clock
    from otel_ebpf.kernel.handover import Loaded

# The last response of a connection that stays open is told of by a sweep: often enough to look live, seldom enough to
# cost nothing.
_SWEEP_INTERVAL_NS: Final = 200_000_000
_FILL_BYTES: Final = 8


class Capture:
    """Reads the ring, the live flows and the counters; sweeps for turns that have gone quiet.

    Hooks that are off on this kernel have no program: what they would give is simply not there.
    """

    def __init__(self, loaded: Loaded, ring_bytes: int, clock: Clock) -> None:
        self._loaded = loaded
        self._clock = clock
        self._ring = Ring(loaded.maps["events"], ring_bytes)
        self._counters = CounterArray(loaded.maps["counters"])
        self._fill = loaded.maps["fill"]
        numbers = layout.constants()
        self._sent_key, self._taken_key = (struct.pack("<I", numbers[name]) for name in ("FILL_SENT", "FILL_TAKEN"))
        self._poll = select.epoll()
        # Edge-triggered: the ring nearly always holds something; what counts is that the kernel side called.
        self._poll.register(loaded.maps["events"], select.EPOLLIN | select.EPOLLET)
        self._swept_ns = 0
        self._flows = 0

    def discover(self) -> bytes:
        """Find listening sockets, then make flows of the connections open before: in that order, for their role.

        Returns:
            Rows of ``struct listener``.
        """
        rows = self._iterate("on_each_listener")
        self._iterate("on_each_socket")
        return rows

    def take(self, *, with_flows: bool) -> Batch:
        """Return what has gathered; never waits."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._swept_ns >= _SWEEP_INTERVAL_NS:
            self._swept_ns = now_ns
            self._iterate("on_each_exchange", "exchanges")
        # Flows before the ring: a connection that ends in between is seen live first and ended second, in its order.
        flows = self._iterate("on_each_flow", "flows") if with_flows else None
        if flows is not None:
            self._flows = len(flows) // layout.FLOW.size
        ring = self._take_ring()
        return Batch(now_ns, ring, flows, self._counters.totals() if with_flows else None)

    def _take_ring(self) -> bytes:
        """Take what is there, and tell the kernel side so: it wakes us when too much has gathered behind that."""
        sent = bpf.lookup(self._fill, self._sent_key, _FILL_BYTES)
        ring = self._ring.take()
        if ring and sent is not None:
            bpf.update(self._fill, self._taken_key, sent)
        return ring

    def wait(self, timeout_s: float) -> None:
        """Return after *timeout_s* seconds, or as soon as the ring has filled to a quarter."""
        self._poll.poll(timeout_s)

    def map_use(self) -> dict[str, tuple[int, int]]:
        """Entries and capacity of the maps whose use is known, by name: live flows, and the ring in bytes."""
        ring_bytes = bpf.map_info(self._loaded.maps["events"]).max_entries
        flows = bpf.map_info(self._loaded.maps["flows"]).max_entries
        return {
            "flows": (self._flows, flows),
            "events": (round(self._ring.fill_ratio() * ring_bytes), ring_bytes),
        }

    def close(self) -> None:
        """Unmap the ring; the descriptors stay with the loaded programs."""
        self._poll.close()
        self._ring.close()

    def _iterate(self, program: str, over: str | None = None) -> bytes:
        fd = self._loaded.programs.get(program)
        if fd is None:
            return b""
        return read_iterator(fd, self._loaded.maps[over] if over else None)
