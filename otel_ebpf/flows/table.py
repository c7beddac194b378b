"""Table: every open connection with the totals last seen, so that differences can be told.

In: flow records of the ring (ends) and rows of live flows. Out: connections opened, failed and closed, their traffic
since the last look, and how many are open per edge.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_ebpf.flows.bounds import DEFAULT_BOUNDS, Bounds
from otel_ebpf.flows.sinks import FlowDelta
from otel_ebpf.flows.turn import role_of
from otel_ebpf.kernel import layout
from otel_ebpf.records import ROLE_SERVER, FlowRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_ebpf.flows.sinks import FlowSink, LedgerLike

LOOKS_MISSED: Final = 2
"""A connection absent from this many looks in a row is gone and its last record lost.

One look may run while its end is on the way.
"""

ERROR_TYPES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ETIMEDOUT: "timed_out",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.ENETUNREACH: "network_unreachable",
}
"""Why a connection was never established, by the kernel's error.

All others, and none when the process gave up, are ``_OTHER``.
"""


@dataclass(slots=True)
class Entry:
    """A connection that is in the table.

    Attributes:
        flow: What was last seen of it.
        edge: The edge under which it counts as open; None while it does not.
        missed: Looks in a row that did not show it.
        over: Whether its end has been told; it stays until the kernel forgets it, too.
    """

    flow: FlowRecord
    edge: bytes | None = None
    missed: int = 0
    over: bool = False


class FlowTable:
    """Connections by their id."""

    def __init__(self, sink: FlowSink, ledger: LedgerLike, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        constants = layout.constants()
        self._sink = sink
        self._ledger = ledger
        self._bounds = bounds
        self._entries: dict[int, Entry] = {}
        self._ended: set[int] = set()  # since the last look
        self._ended_before: set[int] = set()  # in the look before: a row may be older than the record of the end
        self._active: Counter[bytes] = Counter()
        self._flag_ended = constants["FLOW_ENDED"]
        self._flag_failed = constants["FLOW_FAILED"]
        self._flag_connecting = constants["FLOW_CONNECTING"]
        self._flag_older = constants["FLOW_OLDER"]
        self._flag_timed_out = constants["FLOW_TIMED_OUT"]
        self._flag_reset_received = constants["FLOW_RESET_RECEIVED"]
        self._flag_reset_sent = constants["FLOW_RESET_SENT"]

    def __len__(self) -> int:
        """How many connections are in the table."""
        return len(self._entries)

    def active(self) -> Mapping[bytes, int]:
        """Open connections per edge."""
        return self._active

    def take(self, record: FlowRecord) -> None:
        """Take the last record of a connection, or a row of a live one."""
        if record.id in self._ended or record.id in self._ended_before:
            return
        entry = self._entries.get(record.id) or self._add(record)
        entry.missed = 0
        if not entry.over:
            self._tell(entry, record)
        if record.flags & self._flag_ended:
            self._ended.add(record.id)
            self._entries.pop(record.id, None)

    def take_rows(self, rows: bytes) -> None:
        """Take one look at all live flows; connections that are not in it any more are gone."""
        for entry in self._entries.values():
            entry.missed += 1
        for offset in range(0, len(rows) - layout.FLOW.size + 1, layout.FLOW.size):
            self.take(FlowRecord.unpack(rows, offset))
        for flow_id in [i for i, entry in self._entries.items() if entry.missed >= LOOKS_MISSED]:
            self._missed(self._entries.pop(flow_id))
        self._ended_before, self._ended = self._ended, set()

    def _add(self, record: FlowRecord) -> Entry:
        """Begin to remember a connection. With a full table it is told of at its end only, from its totals."""
        entry = Entry(_unseen(record))
        if len(self._entries) < self._bounds.max_flows:
            self._entries[record.id] = entry
        elif record.flags & self._flag_ended == 0:
            entry.over = True
            self._ledger.add("flow", "dropped", "table_full")
        return entry

    def _tell(self, entry: Entry, record: FlowRecord) -> None:
        ended = bool(record.flags & self._flag_ended or record.closed_ns)
        if record.flags & self._flag_failed or (ended and not self._established(record)):
            entry.over = True
            self._sink.failed(record, self.error_type(record))
            return
        if entry.edge is None and not self._ready(record, ended=ended):
            return
        self._count_open(entry, record)
        delta = self._delta(entry.flow, record)
        entry.flow = record
        if delta is not None:
            self._sink.traffic(record, delta)
        if ended:
            self._close(entry, record)

    def _established(self, record: FlowRecord) -> bool:
        return bool(record.established_ns or record.flags & self._flag_older)

    def _ready(self, record: FlowRecord, *, ended: bool) -> bool:
        """Whether all is known that belongs to the opening: a server's connection waits until it is accepted."""
        if record.flags & self._flag_connecting or not self._established(record):
            return False
        waits = role_of(record.edge) == ROLE_SERVER and not record.accepted_ns and not record.flags & self._flag_older
        return ended or not waits

    def _count_open(self, entry: Entry, record: FlowRecord) -> None:
        """Count it as open under its edge, which may become better known while it lives."""
        if entry.edge == record.edge:
            return
        if entry.edge is None:
            self._sink.opened(record)
        else:
            self._uncount(entry.edge)
        entry.edge = record.edge
        self._active[record.edge] += 1

    def _uncount(self, edge: bytes) -> None:
        self._active[edge] -= 1
        if self._active[edge] <= 0:
            del self._active[edge]

    def _close(self, entry: Entry, record: FlowRecord) -> None:
        entry.over = True
        if entry.edge is not None:
            self._uncount(entry.edge)
        since_ns = record.established_ns or record.opened_ns
        self._sink.closed(record, max(0, record.closed_ns - since_ns))

    def _missed(self, entry: Entry) -> None:
        """The last record was lost: the connection ended, its last totals are unknown, and so is when."""
        if not entry.over and entry.edge is not None:
            self._uncount(entry.edge)
        if not entry.over:
            self._ledger.add("flow", "dropped", "end_lost")

    def _delta(self, before: FlowRecord, now: FlowRecord) -> FlowDelta | None:
        """Difference of two sights; None when nothing happened between them."""
        new_flags = now.flags & ~before.flags
        delta = FlowDelta(
            max(0, now.bytes_sent - before.bytes_sent),
            max(0, now.bytes_received - before.bytes_received),
            max(0, now.packets_sent - before.packets_sent),
            max(0, now.packets_received - before.packets_received),
            max(0, now.reads - before.reads),
            max(0, now.writes - before.writes),
            tuple(max(0, b - a) for a, b in zip(before.retransmits, now.retransmits, strict=True)),
            bool(new_flags & self._flag_reset_sent),
            bool(new_flags & self._flag_reset_received),
            now.srtt_us,
        )
        return delta if _happened(delta) else None

    def error_type(self, record: FlowRecord) -> str:
        """Why a connection was never established, as ``error.type``."""
        if record.error in ERROR_TYPES:
            return ERROR_TYPES[record.error]
        if record.flags & self._flag_timed_out:
            return "timed_out"
        return "reset" if record.flags & self._flag_reset_received else "_OTHER"


def _happened(delta: FlowDelta) -> bool:
    counts = (
        delta.bytes_sent,
        delta.bytes_received,
        delta.packets_sent,
        delta.packets_received,
        delta.reads,
        delta.writes,
    )
    return any(counts) or any(delta.retransmits) or delta.reset_sent or delta.reset_received


def _unseen(record: FlowRecord) -> FlowRecord:
    """The connection before it did anything."""
    zeros = (0,) * len(record.retransmits)
    return FlowRecord(
        0, record.id, record.edge, record.local_port, record.remote_port, record.protocol, 0, 0,
        record.opened_ns, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, zeros,
    )  # fmt: skip
