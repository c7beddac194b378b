"""Turns: the slow path, for connections whose exchange is not one record.

In: turns and segments. Out: exchanges, and a ledger row for everything that did not become one. A connection is kept
here while something is under way on it; else only the number of its last turn is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_ebpf.flows.ordinary import find_ordinary, glance_at, glued
from otel_ebpf.flows.pending import new_pending
from otel_ebpf.flows.segments import Segments
from otel_ebpf.flows.turn import TURN_BYTES, turn_flags

if TYPE_CHECKING:
    from otel_ebpf.flows.bounds import Bounds
    from otel_ebpf.flows.ordinary import Exchanges, Found
    from otel_ebpf.flows.pending import PendingFlow
    from otel_ebpf.flows.segments import Segment
    from otel_ebpf.flows.sinks import ExchangeSink, LedgerLike
    from otel_ebpf.flows.turn import Turn

TUNNELLED: Final = -1
"""In :attr:`Turns.told`: the connection has left HTTP."""

PENDING: Final = -2
"""In :attr:`Turns.told`: the connection is in :attr:`Turns.pending`."""

NUMBER_SHIFT: Final = 32
"""In :attr:`Turns.told`, above this bit.

By how much exchanges are ahead of turns, since pipelining puts several into one.
"""

EXPIRE_INTERVAL_NS: Final = 1_000_000_000
"""How often idle connections are looked for: the limits are minutes."""

_SEQUENCE: Final = (1 << NUMBER_SHIFT) - 1  # turn.sequence is 32 bits wide


class Turns:
    """All connections that were seen to speak HTTP.

    Attributes:
        told: By flow, the last turn of which everything has been told. A turn whose predecessor it is may be looked at
        by itself.
        pending: By flow, what is under way.
    """

    def __init__(self, sink: ExchangeSink, ledger: LedgerLike, bounds: Bounds, ordinary: Exchanges) -> None:
        self.told: dict[int, int] = {}
        self.pending: dict[int, PendingFlow] = {}
        self._sink = sink
        self._ordinary = ordinary
        self._ledger = ledger
        self._bounds = bounds
        self._flags = turn_flags()
        self._segments = Segments(bounds)
        self._expire_due_ns = 0

    def take(self, turn: Turn, now_ns: int) -> None:
        """Take a turn that is not an ordinary exchange."""
        segments = self._segments.pop(turn.flow_id, turn.sequence)
        if segments and self._take_glued(turn, segments):
            return
        flow = self.pending.get(turn.flow_id) or self._begin(turn, now_ns)
        if flow is None or turn.sequence < flow.sequence:
            return
        flow.touched_ns = now_ns
        flow.take(turn, segments)
        if turn.flags & self._flags.opaque:
            flow.pairing.open_tunnel()
        if turn.flags & self._flags.closed:
            flow.pairing.close(self._flags.error_type(turn.flags))
        self._deliver(flow)
        self._settle(turn, flow)

    def _take_glued(self, turn: Turn, segments: list[Segment]) -> bool:
        """Count an exchange that is ordinary but for the length of its request head; False when it is not."""
        if (
            turn.flags & ~(self._flags.ordinary | self._flags.wide)
            or self.told.get(turn.flow_id, 0) != turn.sequence - 1
        ):
            return False
        record = glued(turn, segments)
        found = find_ordinary(record, turn) if record else None
        if record is None or found is None:
            return False
        self.told[turn.flow_id] = turn.sequence
        if turn.flags & self._flags.closed:
            del self.told[turn.flow_id]
        self._ledger.add("exchange", "seen")
        self._count(record, turn, found)
        return True

    def _count(self, record: bytes, turn: Turn, found: Found) -> None:
        line = record[TURN_BYTES : found.line_end]
        if self._sink.count(
            turn.edge,
            line,
            turn.response[9:12],
            turn.response_last_ns - turn.request_first_ns,
            turn.response_first_ns - turn.request_first_ns,
            found.request_head,
            turn.request_bytes - found.request_head,
            found.response_head,
            turn.response_bytes - found.response_head,
        ):
            self._sink.detail(
                self._ordinary.at(
                    record, 0, glance_at(turn), line, turn.response[9:12], found.request_head, found.response_head
                )
            )

    def take_segment(self, flow_id: int, segment: Segment, now_ns: int) -> None:
        """Keep a segment until its turn comes."""
        self._ledger.add("segment", "seen")
        if self._segments.put(flow_id, segment, now_ns):
            self._ledger.add("segment", "passed")
        else:
            self._ledger.add("segment", "dropped", "buffer_full")

    def ended(self, flow_id: int, error_type: str) -> None:
        """The connection is gone, and no turn told so."""
        self.told.pop(flow_id, None)
        self._segments.forget(flow_id)
        flow = self.pending.pop(flow_id, None)
        if flow is not None:
            flow.pairing.close(error_type)
            self._deliver(flow)

    def expire(self, now_ns: int) -> None:
        """Tell what has been silent for too long, and forget the oldest connections beyond the bound; once a second."""
        if now_ns < self._expire_due_ns:
            return
        self._expire_due_ns = now_ns + EXPIRE_INTERVAL_NS
        for flow in self.pending.values():
            limit = self._bounds.reply_idle_ns if flow.pairing.answering else self._bounds.wait_idle_ns
            if now_ns - flow.touched_ns > limit:
                flow.touched_ns = now_ns
                flow.pairing.give_up()
                self._deliver(flow)
        self._segments.expire(now_ns - self._bounds.wait_idle_ns)
        while len(self.told) > self._bounds.max_flows:
            self._forget(next(iter(self.told)))

    def finish(self) -> None:
        """Tell everything that is under way: nobody will ask any more."""
        for flow in self.pending.values():
            flow.pairing.give_up()
            self._deliver(flow)
        self.pending.clear()
        self.told.clear()

    def _begin(self, turn: Turn, now_ns: int) -> PendingFlow | None:
        """Begin to follow a connection; None when its turn has been told already or is none of HTTP."""
        told = self.told.get(turn.flow_id, 0)
        last = told & _SEQUENCE
        if told == TUNNELLED or turn.sequence <= last:
            if turn.flags & self._flags.closed:
                self.told.pop(turn.flow_id, None)
            return None
        number = last + (told >> NUMBER_SHIFT) + 1
        doubt = "" if turn.sequence == last + 1 else "turn_lost"
        if not doubt and turn.sequence == 1 and turn.flags & self._flags.joined:
            doubt = "joined"
        flow = new_pending(turn, now_ns, number=max(number, turn.sequence), doubt=doubt)
        if doubt == "turn_lost" and (told >> NUMBER_SHIFT or self._pipelines(turn)):
            flow.pairing.stop_hearing()
        self._keep(turn.flow_id, flow)
        return flow

    def _pipelines(self, turn: Turn) -> bool:
        """Whether the kernel marked this turn as wide for another reason than a long head."""
        return bool(turn.flags & self._flags.wide) and (not turn.request or b"\r\n\r\n" in turn.request)

    def _keep(self, flow_id: int, flow: PendingFlow) -> None:
        if len(self.pending) >= self._bounds.max_pending:
            self._forget(next(iter(self.pending)))
        self.pending[flow_id] = flow
        self.told[flow_id] = PENDING

    def _forget(self, flow_id: int) -> None:
        """Make room: what is under way on this connection is lost, and with its next turn it begins anew."""
        self.told.pop(flow_id, None)
        flow = self.pending.pop(flow_id, None)
        if flow is not None:
            flow.pairing.queue.drop("pending_full")
            self._deliver(flow)

    def _deliver(self, flow: PendingFlow) -> None:
        queue = flow.pairing.queue
        if flow.cut:
            flow.cut = False
            self._ledger.add("segment", "seen")
            self._ledger.add("segment", "dropped", "stream_full")
        if queue.exchanges:
            self._ledger.add("exchange", "seen", n=len(queue.exchanges))
            for exchange in queue.exchanges:
                self._sink.exchange(exchange)
            queue.exchanges.clear()
        for reason in queue.dropped:
            self._ledger.add("exchange", "seen")
            self._ledger.add("exchange", "dropped", reason)
        queue.dropped.clear()

    def _settle(self, turn: Turn, flow: PendingFlow) -> None:
        """Keep the connection only while something is under way on it."""
        pairing = flow.pairing
        if turn.flags & self._flags.closed:
            self.told.pop(turn.flow_id, None)
        elif pairing.tunnel:
            self.told[turn.flow_id] = TUNNELLED
        elif pairing.idle:
            self.told[turn.flow_id] = turn.sequence | max(0, pairing.queue.number - 1 - turn.sequence) << NUMBER_SHIFT
        else:
            return
        del self.pending[turn.flow_id]
