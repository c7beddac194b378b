"""Bounds: how much is kept of connections that are under way. What is cut is counted in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the stage; each with its reason.

    Attributes:
        max_flows: Connections remembered; as many as the kernel's map of flows holds.
        max_pending: Connections whose exchange is told by more than one record. Such a connection costs some kilobytes:
            at the limit that is less than 32 MiB.
        max_segment_bytes: Segments of one connection that wait for their turn: as much as the ring holds by default. A
            pipelining client that reads megabytes in answer to one write needs that much.
        max_all_segment_bytes: Segments of all connections: a quarter of the agent's memory target.
        wait_idle_ns: A request waits this long for any answer. Long polls last minutes; a quarter of an hour is
        nobody's
            poll.
        reply_idle_ns: A response whose end cannot be told from its framing counts as ended after this much silence:
            longer than keep-alive pings of event streams, which come every 15 to 45 s.
    """

    max_flows: int = 32768
    max_pending: int = 8192
    max_segment_bytes: int = 4 << 20
    max_all_segment_bytes: int = 16 << 20
    wait_idle_ns: int = 900_000_000_000
    reply_idle_ns: int = 60_000_000_000


DEFAULT_BOUNDS: Final = Bounds()
