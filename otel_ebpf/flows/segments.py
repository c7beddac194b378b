"""Segments: bytes of calls that came before the turn they belong to.

In: segment records. Out: the segments of a turn, when it comes. Bounded per connection and in all; what finds no room
is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from otel_ebpf.flows.bounds import Bounds

REQUEST: Final = 0  # DIRECTION_REQUEST
RESPONSE: Final = 1  # DIRECTION_RESPONSE

OBJECT_BYTES: Final = 160
"""What a segment costs beyond its data: tuple, numbers and bytes object."""


class Segment(NamedTuple):
    """Bytes of one call at a position."""

    sequence: int
    direction: int
    position: int
    time_ns: int
    data: bytes

    @property
    def cost_bytes(self) -> int:
        """Memory it takes."""
        return len(self.data) + OBJECT_BYTES


@dataclass(slots=True)
class _Queue:
    """Segments of one connection, their cost in bytes, and when the last one came."""

    segments: list[Segment] = field(default_factory=list)
    cost_bytes: int = 0
    touched_ns: int = 0


class Segments:
    """Segments of all connections that wait for their turn."""

    def __init__(self, bounds: Bounds) -> None:
        self.cost_bytes = 0
        self._bounds = bounds
        self._queues: dict[int, _Queue] = {}

    def put(self, flow_id: int, segment: Segment, now_ns: int) -> bool:
        """Keep a segment; False when there is no room for it."""
        queue = self._queues.setdefault(flow_id, _Queue())
        cost = segment.cost_bytes
        bounds = self._bounds
        if queue.cost_bytes + cost > bounds.max_segment_bytes or self.cost_bytes + cost > bounds.max_all_segment_bytes:
            return False
        queue.segments.append(segment)
        queue.cost_bytes += cost
        queue.touched_ns = now_ns
        self.cost_bytes += cost
        return True

    def pop(self, flow_id: int, sequence: int) -> list[Segment]:
        """Take out those of one turn, by position; older ones are of no use any more, their turn was lost."""
        queue = self._queues.pop(flow_id, None)
        if queue is None:
            return []
        self.cost_bytes -= queue.cost_bytes
        mine = [segment for segment in queue.segments if segment.sequence == sequence]
        mine.sort(key=_position)
        return mine

    def forget(self, flow_id: int) -> None:
        """The connection is gone."""
        self.pop(flow_id, 0)

    def expire(self, before_ns: int) -> None:
        """Forget connections that have been silent since before *before_ns*.

        Their turn was lost, and so was their end.
        """
        for flow_id in [i for i, queue in self._queues.items() if queue.touched_ns < before_ns]:
            self.forget(flow_id)


def _position(segment: Segment) -> int:
    return segment.position
