"""Intake: bytes of the ring in, exchanges and connection totals out.

The ordinary exchange (one turn, one request, one complete response) is counted straight from its bytes, without an
object; all else goes the slow path of :mod:`turns`. What is ordinary is decided by the framing rules of RFC 9112, 6.3,
read strictly: in doubt, slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_ebpf.flows.bounds import DEFAULT_BOUNDS, Bounds
from otel_ebpf.flows.ordinary import GLANCE_FIELDS, STATUSES, Exchanges, LengthTexts, body_is_whole, request_is_whole
from otel_ebpf.flows.segments import Segment
from otel_ebpf.flows.turn import TURN_BYTES, Turn, flow_endings, glance, turn_flags
from otel_ebpf.flows.turns import Turns
from otel_ebpf.kernel import layout
from otel_ebpf.records import FlowRecord

if TYPE_CHECKING:
    from otel_ebpf.flows.sinks import ExchangeSink, LedgerLike
    from otel_ebpf.flows.table import FlowTable

HEADER_BYTES: Final = layout.RING_HEADER_BYTES
_LENGTH: Final = layout.RING_DISCARD - 1
_DATA: Final = HEADER_BYTES + TURN_BYTES  # from a record's ring header to its captured bytes


class Intake:
    """Takes what the kernel side hands over.

    Attributes:
        turns: Turn records taken, snapshots not counted: with the kernel's count of lost ones, all that were emitted.
        snapshots: Turn records that the sweep sent.
        segments: Segment records taken.
        flows: Flow records taken.
    """

    def __init__(
        self, exchanges: ExchangeSink, flows: FlowTable, ledger: LedgerLike, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        constants = layout.constants()
        self.turns = 0
        self.snapshots = 0
        self.segments = 0
        self.flows = 0
        self._exchanges = exchanges
        self._table = flows
        self._ledger = ledger
        self._ordinary = Exchanges()
        self._slow = Turns(exchanges, ledger, bounds, self._ordinary)
        self._glance = glance(GLANCE_FIELDS, head="I4x")  # the length in the ring's header
        self._lengths = LengthTexts(b"Content-Length")
        self._lower_lengths = LengthTexts(b"content-length")
        self._flags = turn_flags()
        self._turn_kind = constants["RECORD_TURN"]
        self._response_room = constants["RESPONSE_INLINE_BYTES"]
        self._segment_kind = constants["RECORD_SEGMENT"]
        self._flow_kind = constants["RECORD_FLOW"]
        self._flow_ended = constants["FLOW_ENDED"]
        self._flow_endings = flow_endings()
        self._last_news = self._flags.closed | self._flags.snapshot

    @property
    def pending(self) -> int:
        """Connections with something under way."""
        return len(self._slow.pending)

    def take(self, ring: bytes, now_ns: int) -> int:
        """Take a span of the ring, whole records with their headers; return how many there were.

        Flat, with everything in local variables: it runs for every exchange. A response whose head is longer than its
        room in the turn counts as complete when the next request ended its turn: on a connection that pipelines the
        turn would be wide.
        """
        find, starts, unpack = ring.find, ring.startswith, self._glance.unpack_from
        count, told, lengths, turn_kind = self._exchanges.count, self._slow.told, self._lengths, self._turn_kind
        lower_lengths, detail, exchange_at = self._lower_lengths, self._exchanges.detail, self._ordinary.at
        told_get, statuses, special, last_news = told.get, STATUSES, ~self._flags.ordinary, self._last_news
        ending, room = last_news | self._flags.tail, self._response_room
        records = counted = at = 0
        last = len(ring) - self._glance.size
        while at <= last:
            (length, kind, sequence, flow_id, edge, asked, answered, asked_bytes, answered_bytes, asked_ns, first_ns,
             last_ns, flags) = glanced = unpack(ring, at)  # fmt: skip
            records += 1
            here, at = at, at + ((length & _LENGTH) + HEADER_BYTES + 7 & ~7)
            if kind == turn_kind and not flags & special and told_get(flow_id, 0) == sequence - 1 and length <= _LENGTH:
                start = here + _DATA
                middle = start + asked
                line = find(b"\r\n", start, middle)
                head = find(b"\r\n\r\n", start, middle) + 4 - start
                answer = find(b"\r\n\r\n", middle, middle + answered) + 4 - middle
                status = ring[middle : middle + 12]
                if (
                    head > 0 and status in statuses and starts(b" HTTP/1.", line - 9)
                    and ((head == asked_bytes and ring[start] in b"GH" and find(b"ontent-", start, middle) < 0)
                         or request_is_whole(ring, start, middle, head, asked_bytes - head))
                    and (find(lengths[answered_bytes - answer], middle, middle + answer) >= 0
                         or find(lower_lengths[answered_bytes - answer], middle, middle + answer) >= 0
                         or body_is_whole(ring, start, middle, answered, answered_bytes, answer, flags & ending)
                         if answer > 0 else answered == room and not flags & last_news)
                ):  # fmt: skip
                    told[flow_id] = sequence
                    counted += 1
                    if flags & last_news:
                        self._note(flow_id, flags)
                    if answer > 0:
                        body = answered_bytes - answer
                    else:
                        answer = body = -1
                    said, code = ring[start:line], status[9:]
                    if count(edge, said, code, last_ns - asked_ns, first_ns - asked_ns, head, asked_bytes - head,
                             answer, body):  # fmt: skip
                        detail(exchange_at(ring, here + HEADER_BYTES, glanced, said, code, head, answer))
                    continue
            self._take_other(ring, here + HEADER_BYTES, length, now_ns)
        self._account(counted)
        return records

    def expire(self, now_ns: int) -> None:
        """Give up what has been silent for too long; call it every second or so."""
        self._slow.expire(now_ns)

    def finish(self) -> None:
        """Tell everything that is under way, as not ended: the agent stops."""
        self._slow.finish()

    def _note(self, flow_id: int, flags: int) -> None:
        """An ordinary exchange was the connection's last one, or was told by the sweep."""
        if flags & self._flags.snapshot:
            self.snapshots += 1
            self.turns -= 1
        if flags & self._flags.closed:
            self._slow.told.pop(flow_id, None)

    def _account(self, counted: int) -> None:
        self.turns += counted
        if counted:
            self._ledger.add("exchange", "seen", n=counted)

    def _take_other(self, ring: bytes, at: int, length: int, now_ns: int) -> None:
        """Take a record that is no ordinary exchange."""
        if length > _LENGTH:  # discarded
            return
        kind = int.from_bytes(ring[at : at + 4], "little")
        if kind == self._turn_kind:
            self._take_turn(Turn.unpack(ring, at), now_ns)
        elif kind == self._segment_kind:
            self._take_segment(ring, at, now_ns)
        elif kind == self._flow_kind:
            self._take_flow(FlowRecord.unpack(ring, at))

    def _take_turn(self, turn: Turn, now_ns: int) -> None:
        if turn.flags & self._flags.snapshot:
            self.snapshots += 1
        else:
            self.turns += 1
        self._slow.take(turn, now_ns)

    def _take_segment(self, ring: bytes, at: int, now_ns: int) -> None:
        self.segments += 1
        _, sequence, flow_id, position, time_ns, size, direction = layout.SEGMENT.unpack_from(ring, at)
        begin = at + layout.SEGMENT.size
        segment = Segment(sequence, direction, position, time_ns, ring[begin : begin + size])
        self._slow.take_segment(flow_id, segment, now_ns)

    def _take_flow(self, flow: FlowRecord) -> None:
        self.flows += 1
        if flow.flags & self._flow_ended:
            self._slow.ended(flow.id, self._flow_endings.error_type(flow.flags))
        self._table.take(flow)
