"""Intake: bytes of the ring in, exchanges and connection totals out.

The ordinary exchange (one turn, one request, one complete response) is counted straight from its bytes, without an object; all else
goes the slow path of :mod:`turns`. What is ordinary is decided by the framing rules of RFC 9112, 6.3, read strictly: in doubt, slow.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from otel_ebpf.flows.bounds import DEFAULT_BOUNDS, Bounds
from otel_ebpf.flows.ordinary import LengthTexts, body_is_whole, exchange_at, request_is_whole
from otel_ebpf.flows.pending import Segment
from otel_ebpf.flows.turn import TURN_BYTES, Turn, turn_flags
from otel_ebpf.flows.turns import Turns
from otel_ebpf.kernel import layout
from otel_ebpf.records import FlowRecord

if TYPE_CHECKING:
    from otel_ebpf.flows.bounds import LedgerLike
    from otel_ebpf.flows.sinks import ExchangeSink
    from otel_ebpf.flows.table import FlowTable

HEADER_BYTES: Final = layout.RING_HEADER_BYTES

_GLANCE_FIELDS: Final = (
    "kind",
    "sequence",
    "flow_id",
    "edge",
    "request_captured",
    "response_captured",
    "request_bytes",
    "response_bytes",
    "request_first_ns",
    "response_first_ns",
    "response_last_ns",
    "flags",
)

# What an ordinary final status may be; three digits by RFC 9110, 15. 101 is none: the connection changes its protocol.
_STATUSES: Final = frozenset(b"%d" % status for status in range(200, 600))


def _glance() -> struct.Struct:
    """The ring header's length and the fields of a turn that the fast path looks at; the others are passed over unread."""
    codes = (
        code if name in _GLANCE_FIELDS else f"{struct.calcsize(f'<{code}')}x" for name, code in layout.TURN_RECORD.fields
    )
    return struct.Struct("<I4x" + "".join(codes))


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
        self._slow = Turns(exchanges, ledger, bounds)
        self._glance = _glance()
        self._lengths = LengthTexts()
        self._flags = turn_flags()
        self._turn_kind = constants["RECORD_TURN"]
        self._segment_kind = constants["RECORD_SEGMENT"]
        self._flow_kind = constants["RECORD_FLOW"]
        self._flow_ended = constants["FLOW_ENDED"]

    @property
    def pending(self) -> int:
        """Connections with something under way."""
        return len(self._slow.pending)

    def take(self, ring: bytes, now_ns: int) -> int:  # noqa: PLR0914, C901  # flat and with locals: run for every exchange
        """Take a span of the ring, whole records with their headers; return how many there were."""
        find, starts, unpack = ring.find, ring.startswith, self._glance.unpack_from
        count, lengths, told, turn_kind = self._exchanges.count, self._lengths, self._slow.told, self._turn_kind
        told_get, statuses, special = told.get, _STATUSES, ~self._flags.ordinary
        records = counted = at = 0
        last = len(ring) - self._glance.size
        while at <= last:
            (length, kind, sequence, flow_id, edge, asked, answered, asked_bytes, answered_bytes, asked_ns, first_ns, last_ns,
             flags) = unpack(ring, at)  # fmt: skip
            records += 1
            here, at = at, at + ((length & 0x3FFFFFFF) + 15 & ~7)
            if kind == turn_kind and not flags & special and told_get(flow_id, 0) == sequence - 1 and length < 0x40000000:
                start = here + 200
                middle = start + asked
                head = find(b"\r\n\r\n", start, middle) + 4 - start
                line = find(b"\r\n", start, middle)
                status = ring[middle + 9 : middle + 12]
                answer = find(b"\r\n\r\n", middle, middle + answered) + 4 - middle
                body = answered_bytes - answer
                if (
                    head > 3 and answer > 3 and status in statuses and starts(b"HTTP/1.", middle)
                    and starts(b" HTTP/1.", line - 9)
                    and ((head == asked_bytes and find(b"ontent-", start, middle) < 0 and ring[start] in b"GH")
                         or request_is_whole(ring, start, asked, head, asked_bytes))
                    and (find(lengths[body], middle, middle + answer) >= 0
                         or body_is_whole(ring, here, answer, body, flags))
                ):  # fmt: skip
                    told[flow_id] = sequence
                    counted += 1
                    if count(edge, ring[start:line], status, last_ns - asked_ns, first_ns - asked_ns, head,
                             asked_bytes - head, answer, body):  # fmt: skip
                        self._exchanges.detail(exchange_at(ring, here, head, answer))
                    continue
            self._take_other(ring, here, length, now_ns)
        return records
