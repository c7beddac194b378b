"""Connections as metrics: what the flow table tells becomes counters and histograms per edge.

In: flows as they open, fail, move bytes and close. Out: counts in the aggregate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, Protocol

from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, FlowRecord
from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.edges import MOST_EDGES, Edge, Edges, W
from otel_ebpf.telemetry.instruments import Instrument
from otel_ebpf.telemetry.series import HistogramSeries, Instant, NumberSeries

PROTOCOL_NAMES: Final = {1: "http", 2: "http"}
"""``network.protocol.name`` by ``flow.protocol`` (``PROTOCOL_HTTP1``, ``PROTOCOL_HTTP2``); others are not known."""


class FlowDelta(Protocol):
    """What a flow did since the last look."""

    @property
    def bytes_sent(self) -> int:
        """Payload bytes sent."""

    @property
    def bytes_received(self) -> int:
        """Payload bytes received."""

    @property
    def packets_sent(self) -> int:
        """Segments sent."""

    @property
    def packets_received(self) -> int:
        """Segments received."""

    @property
    def reads(self) -> int:
        """Socket calls that took bytes."""

    @property
    def writes(self) -> int:
        """Socket calls that gave bytes."""

    @property
    def retransmits(self) -> tuple[int, ...]:
        """Segments sent again, in the order of ``names.RETRANSMIT_TYPES``."""

    @property
    def reset_sent(self) -> bool:
        """This end reset the connection."""

    @property
    def reset_received(self) -> bool:
        """The other end reset the connection."""

    @property
    def srtt_us(self) -> int:
        """Smoothed round-trip time now, 0 when unknown."""


def _operation(name: str) -> wire.Attributes:
    return ((names.SOCKET_OPERATION, name),)


_TRANSMIT: Final = ((names.NETWORK_IO_DIRECTION, "transmit"),)
_RECEIVE: Final = ((names.NETWORK_IO_DIRECTION, "receive"),)
_CONNECT: Final = _operation("connect")
_ACCEPT: Final = _operation("accept")
_CLOSE: Final = _operation("close")
_READ: Final = _operation("read")
_WRITE: Final = _operation("write")
_RETRANSMITS: Final = tuple(((names.RETRANSMIT_TYPE, name),) for name in names.RETRANSMIT_TYPES)


class _View(Generic[W]):
    """The series of one edge, found once per collection."""

    __slots__ = ("_aggregate", "_histograms", "_now", "_numbers", "edge", "role")

    def __init__(self, edge: Edge[W], aggregate: Aggregate, now: Instant) -> None:
        self.edge = edge
        self.role: wire.Attributes = ((names.ROLE, edge.role),)
        self._aggregate = aggregate
        self._now = now
        self._numbers: dict[tuple[Instrument, wire.Attributes], NumberSeries] = {}
        self._histograms: dict[tuple[Instrument, wire.Attributes], HistogramSeries] = {}

    def add(self, row: Instrument, extra: wire.Attributes, number: int) -> None:
        """Add to a counter, unless there is nothing to add."""
        if not number:
            return
        series = self._numbers.get((row, extra))
        if series is None:
            edge = self.edge
            series = self._aggregate.number(row, edge.resource, extra + edge.attributes, self._now)
            self._numbers[row, extra] = series
        series.value += number

    def record(self, row: Instrument, extra: wire.Attributes, value: int) -> None:
        """Count a value of a histogram."""
        series = self._histograms.get((row, extra))
        if series is None:
            edge = self.edge
            series = self._aggregate.histogram(row, edge.resource, extra + edge.attributes, self._now)
            self._histograms[row, extra] = series
        series.histogram.add(value)


class ConnectionCounter(Generic[W]):
    """Counts what flows do. A connection older than the agent is active and has traffic, but nobody saw it open.

    Attributes:
        now: Time of the present turn of the loop.
    """

    def __init__(self, aggregate: Aggregate, edges: Edges[W], now: Instant) -> None:
        self.now = now
        self._aggregate = aggregate
        self._edges = edges
        self._views: dict[bytes, _View[W] | None] = {}

    def refresh(self) -> None:
        """Forget which edge belongs to which series."""
        self._views.clear()

    def _view(self, raw: bytes) -> _View[W] | None:
        """Return the series of an edge, None when nobody wants it."""
        try:
            return self._views[raw]
        except KeyError:
            if len(self._views) >= MOST_EDGES:
                self._views.clear()
            edge = self._edges.get(raw)
            view = self._views[raw] = _View(edge, self._aggregate, self.now) if edge.watched else None
            return view

    def opened(self, flow: FlowRecord) -> None:
        """Count a connection that was established."""
        view = self._view(flow.edge)
        if view is None or not flow.established_ns:
            return
        view.add(table.CONNECTIONS, view.role, 1)
        if flow.handshake_ns:
            view.record(table.HANDSHAKE_DURATION, view.role, flow.handshake_ns)
        if view.edge.key.role == ROLE_CLIENT:
            view.add(table.SOCKET_CALLS, _CONNECT, 1)
        elif view.edge.key.role == ROLE_SERVER and flow.accepted_ns:
            view.add(table.SOCKET_CALLS, _ACCEPT, 1)
            view.record(table.ACCEPT_WAIT, (), max(flow.accepted_ns - flow.established_ns, 0))

    def failed(self, flow: FlowRecord, error_type: str) -> None:
        """Count a connection that was never established."""
        view = self._view(flow.edge)
        if view is None:
            return
        error = ((names.ERROR_TYPE, error_type),)
        view.add(table.CONNECTIONS, view.role + error, 1)
        if view.edge.key.role == ROLE_CLIENT:
            view.add(table.SOCKET_CALLS, _CONNECT + error, 1)

    def traffic(self, flow: FlowRecord, delta: FlowDelta) -> None:
        """Count what a flow did since the last look."""
        view = self._view(flow.edge)
        if view is None:
            return
        protocol = PROTOCOL_NAMES.get(flow.protocol)
        both = view.role if protocol is None else (*view.role, (names.NETWORK_PROTOCOL_NAME, protocol))
        view.add(table.NETWORK_IO, _TRANSMIT + both, delta.bytes_sent)
        view.add(table.NETWORK_IO, _RECEIVE + both, delta.bytes_received)
        view.add(table.NETWORK_PACKETS, _TRANSMIT + both, delta.packets_sent)
        view.add(table.NETWORK_PACKETS, _RECEIVE + both, delta.packets_received)
        view.add(table.SOCKET_CALLS, _READ, delta.reads)
        view.add(table.SOCKET_CALLS, _WRITE, delta.writes)
        view.add(table.RESETS, _TRANSMIT, delta.reset_sent)
        view.add(table.RESETS, _RECEIVE, delta.reset_received)
        if any(delta.retransmits):
            for extra, number in zip(_RETRANSMITS, delta.retransmits, strict=True):
                view.add(table.RETRANSMITS, extra, number)
        if delta.srtt_us:
            view.record(table.RTT, (), delta.srtt_us * 1000)

    def closed(self, flow: FlowRecord, duration_ns: int) -> None:
        """Count the end of a connection; *duration_ns* is its life, known when we saw it begin."""
        view = self._view(flow.edge)
        if view is None:
            return
        view.add(table.SOCKET_CALLS, _CLOSE, 1)
        if flow.established_ns and duration_ns >= 0:
            view.record(table.CONNECTION_DURATION, view.role, duration_ns)

    def observe_active(self, active: Mapping[bytes, int]) -> None:
        """Set how many connections are open, per edge."""
        edges = ((self._edges.get(raw), number) for raw, number in active.items())
        values = (
            (edge.resource, ((names.ROLE, edge.role), *edge.attributes), number)
            for edge, number in edges
            if edge.watched
        )
        self._aggregate.observe(table.CONNECTIONS_ACTIVE, values, self.now)
