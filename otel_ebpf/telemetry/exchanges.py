"""The hot path: exchanges become the numbers of their series.

In: request lines, statuses, durations and sizes, ten thousand a second. Out: counts in the aggregate, and which of them
deserve a log record or a span.
"""

from __future__ import annotations

from typing import Final, Generic

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.telemetry import http
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.edges import Edge, Edges, W
from otel_ebpf.telemetry.policy import Policy
from otel_ebpf.telemetry.series import HttpSeries, Instant

MOST_LINES: Final = 4096
"""Request lines kept with their series, about 250 B each; twice as many can be alive for a moment. A service that never
repeats a path costs 3 µs more per exchange and no memory."""

MOST_PENDING: Final = 8192
"""Exchanges that wait to be folded: at 160 B each little over a megabyte, and enough for folding in bulk to pay."""

Line = tuple[bytes, bytes, bytes]


class ExchangeCounter(Generic[W]):
    """Counts exchanges. ``count`` costs half a microsecond when the request line is known.

    Attributes:
        now: Time of the present turn of the loop.
    """

    def __init__(self, aggregate: Aggregate, edges: Edges[W], policy: Policy, now: Instant) -> None:
        self.now = now
        self._aggregate = aggregate
        self._edges = edges
        self._policy = policy
        self._slow_ns = policy.slow_ns
        self._lines: dict[Line, tuple[list[int], bool]] = {}
        self._older: dict[Line, tuple[list[int], bool]] = {}
        self._known: dict[tuple[Edge[W], http.Facts], HttpSeries] = {}
        self._discarded: list[int] = []
        self._unwatched = 0
        self._counted = 0
        self._pending = 0
        self._round = self._left = min(policy.one_in or MOST_PENDING, MOST_PENDING)

    @property
    def seen(self) -> int:
        """Exchanges counted since the start."""
        return self._counted + self._round - self._left

    @property
    def unwatched(self) -> int:
        """Of them, those that the selectors do not want."""
        return self._unwatched + len(self._discarded) // HttpSeries.WIDTH

    def count(  # noqa: PLR0913, PLR0917 - one call per exchange: an object in between would double its cost
        self, edge: bytes, request_line: bytes, status: bytes, duration_ns: int, first_byte_ns: int,
        request_header_bytes: int, request_body_bytes: int, response_header_bytes: int, response_body_bytes: int,
    ) -> bool:  # fmt: skip
        """Count one complete ordinary exchange; times in ns, sizes in bytes, -1 where unknown.

        Returns:
            Whether it deserves to be told in detail.
        """
        try:
            pending, wanted = self._lines[edge, request_line, status]
        except KeyError:
            pending, wanted = self._learn(edge, request_line, status)
        pending += (
            duration_ns,
            first_byte_ns,
            request_header_bytes,
            request_body_bytes,
            response_header_bytes,
            response_body_bytes,
        )
        self._left -= 1
        if self._left:
            return wanted or duration_ns >= self._slow_ns
        return self._turn(pending) or wanted or duration_ns >= self._slow_ns

    def _turn(self, pending: list[int]) -> bool:
        """Do what is due every N exchanges; return whether this one is the 1 in N."""
        self._counted += self._round
        self._pending += self._round
        self._left = self._round
        watched = pending is not self._discarded
        if self._pending >= MOST_PENDING:
            self.fold()
        return self._policy.pick(self._round) and watched

    def fold(self) -> None:
        """Count all that is pending."""
        self._pending = 0
        self._aggregate.fold()
        self._unwatched = self.unwatched
        self._discarded.clear()

    def refresh(self) -> None:
        """Forget which line belongs to which series: series may have been forgotten, and workloads be better known."""
        self.fold()
        self._lines.clear()
        self._older.clear()
        self._known.clear()

    def _learn(self, edge_key: bytes, request_line: bytes, status: bytes) -> tuple[list[int], bool]:
        if len(self._lines) >= MOST_LINES:
            self._older, self._lines = self._lines, {}
        key = (edge_key, request_line, status)
        entry = self._older.get(key)
        if entry is None:
            entry = self._entry(self._edges.get(edge_key), request_line, status)
        self._lines[key] = entry
        return entry

    def _entry(self, edge: Edge[W], request_line: bytes, status: bytes) -> tuple[list[int], bool]:
        if not edge.watched:
            return self._discarded, False
        method, target, version = http.split_line(request_line)
        code = int(status) if status.isdigit() else None
        error = http.error_type(code, None, client=edge.client)
        route = self.route(edge, method, target)
        series = self._series(edge, http.Facts(method, code, version, route, error, tls=False))
        return series.pending, self._policy.wants(error)

    def route(self, edge: Edge[W], method: bytes, target: bytes) -> str | None:
        """Return the route of a request target, None where it has no path to have one."""
        return self.route_of(edge, method, http.split_target(method, target)[0])

    def route_of(self, edge: Edge[W], method: bytes, path: bytes | None) -> str | None:
        """Return the route of a path, None where there is none to have one."""
        if path is None or not path.startswith(b"/"):
            return None
        if edge.client:
            self._edges.enricher.note_request(edge.key, edge.workload, path)
        return self._edges.enricher.route(edge.workload, method, path)

    def _series(self, edge: Edge[W], facts: http.Facts) -> HttpSeries:
        key = (edge, facts)
        series = self._known.get(key)
        if series is None:
            attributes = http.series_attributes(edge.attributes, facts, client=edge.client)
            family = self._aggregate.http["client" if edge.client else "server"]
            series = family.get(edge.resource, attributes, self.now)
            if len(self._known) < MOST_LINES:
                self._known[key] = series
        return series

    def exchange(self, exchange: Exchange) -> bool:
        """Count an exchange that is not ordinary; return whether it deserves to be told in detail."""
        edge = self._edges.get(exchange.edge)
        if not edge.watched:
            self._count(self._discarded, (0,) * HttpSeries.WIDTH)
            return False
        error = http.error_type(exchange.status, exchange.error_type, client=edge.client)
        route = self.route(edge, exchange.method, exchange.target)
        series = self._series(
            edge, http.Facts(exchange.method, exchange.status, exchange.version, route, error, exchange.tls)
        )
        values = values_of(exchange)
        return self._count(series.pending, values) or self._policy.wants(error) or values[0] >= self._slow_ns

    def _count(self, pending: list[int], values: tuple[int, ...]) -> bool:
        pending += values
        self._left -= 1
        return not self._left and self._turn(pending)


def values_of(exchange: Exchange) -> tuple[int, int, int, int, int, int]:
    """Return the six values of an exchange in the order of ``HttpSeries.pending``, -1 where unknown."""
    sizes = (
        exchange.request_header_bytes,
        exchange.request_body_bytes,
        exchange.response_header_bytes,
        exchange.response_body_bytes,
    )
    header, body, response_header, response_body = (-1 if size is None else size for size in sizes)
    return duration_ns(exchange), first_byte_ns(exchange), header, body, response_header, response_body


def duration_ns(exchange: Exchange) -> int:
    """Return first byte of the request to last byte seen, in ns; -1 when the beginning was not seen."""
    begin, end = exchange.request_first_ns, exchange.response_last_ns or exchange.request_last_ns
    if not begin or not end:
        return -1
    return end - begin if end > begin else 0


def first_byte_ns(exchange: Exchange) -> int:
    """Return first byte of the request to first byte of the response, in ns; -1 when one was not seen."""
    if not exchange.request_first_ns or not exchange.response_first_ns:
        return -1
    return max(exchange.response_first_ns - exchange.request_first_ns, 0)
