"""Aggregates: every series, bounded in number and in age, collected in either temporality.

In: attribute sets of workloads. Out: series to count into and, per collection, a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.instruments import Instrument, Kind
from otel_ebpf.telemetry.series import (
    HistogramSeries,
    HttpSeries,
    Instant,
    NumberSeries,
    Point,
    Resource,
    Series,
    WorkloadLike,
)

OVERFLOW: Final[wire.Attributes] = ((names.OVERFLOW, True),)

HTTP_SERVER: Final = (
    table.SERVER_DURATION,
    table.TIME_TO_FIRST_BYTE,
    table.REQUEST_HEADER,
    table.SERVER_REQUEST_BODY,
    table.RESPONSE_HEADER,
    table.SERVER_RESPONSE_BODY,
)
"""In the order of ``HttpSeries.pending``."""
HTTP_CLIENT: Final = (
    table.CLIENT_DURATION,
    table.TIME_TO_FIRST_BYTE,
    table.REQUEST_HEADER,
    table.CLIENT_REQUEST_BODY,
    table.RESPONSE_HEADER,
    table.CLIENT_RESPONSE_BODY,
)

S = TypeVar("S", bound=Series)


@dataclass(slots=True)
class Budget:
    """How many attribute sets there may still be; families that feed the same instrument share one."""

    left: int


@dataclass(slots=True)
class Family(Generic[S]):
    """The series of one instrument, or of several that are always counted together.

    Attributes:
        make: Makes a series from resource, attributes and the time.
        budget: Attribute sets that there is room for.
        most_overflows: Most workloads that get an overflow series of their own.
        rest: Takes the overflow of workloads when there are too many of these as well.
        rows: The series.
        overflow: Series of what met the limit, one per workload.
        refused: Attribute sets that met the limit.
    """

    make: Callable[[Resource, wire.Attributes, Instant], S]
    budget: Budget
    most_overflows: int
    rest: Resource
    rows: dict[tuple[Resource, wire.Attributes], S]
    overflow: dict[Resource, S]
    refused: int = 0

    def get(self, resource: Resource, attributes: wire.Attributes, now: Instant) -> S:
        """Return the series of an attribute set; the overflow series when there are too many."""
        key = (resource, attributes)
        series = self.rows.get(key)
        if series is None:
            if self.budget.left <= 0:
                return self._overflowed(resource, now)
            self.budget.left -= 1
            series = self.rows[key] = self.make(resource, attributes, now)
        return series

    def _overflowed(self, resource: Resource, now: Instant) -> S:
        self.refused += 1
        if resource not in self.overflow and len(self.overflow) >= self.most_overflows:
            resource = self.rest
        series = self.overflow.get(resource)
        if series is None:
            series = self.overflow[resource] = self.make(resource, OVERFLOW, now)
        return series

    def __iter__(self) -> Iterator[S]:
        yield from self.rows.values()
        yield from self.overflow.values()

    def __len__(self) -> int:
        return len(self.rows) + len(self.overflow)

    def forget(self, idle: Callable[[S], bool]) -> int:
        """Drop the series that are idle; return how many."""
        before, rows = len(self), len(self.rows)
        self.rows = {key: series for key, series in self.rows.items() if not idle(series)}
        self.budget.left += rows - len(self.rows)
        self.overflow = {key: series for key, series in self.overflow.items() if not idle(series)}
        return before - len(self)


@dataclass(frozen=True, slots=True)
class Metric:
    """The points of one instrument of one workload."""

    instrument: Instrument
    delta: bool
    points: list[Point]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One collection: per workload its metrics."""

    rows: list[tuple[Resource, list[Metric]]]

    def points(self) -> int:
        """Return the number of data points."""
        return sum(len(metric.points) for _, metrics in self.rows for metric in metrics)


class Aggregate:
    """Every series of the agent.

    Args:
        own: The agent's own Resource.
        limit: Attribute sets per instrument.
        ttl_ns: A series that did not change for this long is forgotten; when it comes back it starts anew.
        temporality: ``cumulative``, ``delta`` or ``lowmemory`` (OTLP Metrics Exporter specification).
    """

    def __init__(self, own: Resource, *, limit: int, ttl_ns: int, temporality: str) -> None:
        self.own = own
        self.forgotten = 0
        self._limit = limit
        self._ttl_ns = ttl_ns
        self._temporality = temporality
        self._resources: dict[WorkloadLike, Resource] = {}
        self.http: dict[str, Family[HttpSeries]] = {}
        self._numbers: dict[Instrument, Family[NumberSeries]] = {}
        self._histograms: dict[Instrument, Family[HistogramSeries]] = {}
        budget = Budget(limit - 1)
        for role, rows in (("server", HTTP_SERVER), ("client", HTTP_CLIENT)):
            self.http[role] = self._family(_http_maker(rows, role), budget)

    def _family(
        self, make: Callable[[Resource, wire.Attributes, Instant], S], budget: Budget | None = None
    ) -> Family[S]:
        """Make a family; the overflow series is one of the *limit* attribute sets (metrics SDK specification)."""
        return Family(make, budget or Budget(self._limit - 1), self._limit, self.own, {}, {})

    def resource(self, workload: WorkloadLike) -> Resource:
        """Return the one Resource of a workload; not bounded here: ``collect`` keeps only those of living series."""
        known = self._resources.get(workload)
        if known is None:
            known = self._resources[workload] = Resource(workload)
        return known

    def number(self, row: Instrument, resource: Resource, attributes: wire.Attributes, now: Instant) -> NumberSeries:
        """Return the series of a counter, updowncounter or gauge."""
        family = self._numbers.get(row)
        if family is None:
            family = self._numbers[row] = self._family(lambda *args: NumberSeries(row, *args))
        return family.get(resource, attributes, now)

    def histogram(
        self, row: Instrument, resource: Resource, attributes: wire.Attributes, now: Instant
    ) -> HistogramSeries:
        """Return the series of a histogram."""
        family = self._histograms.get(row)
        if family is None:
            family = self._histograms[row] = self._family(lambda *args: HistogramSeries(row, *args))
        return family.get(resource, attributes, now)

    def observe(self, row: Instrument, values: Iterable[tuple[Resource, wire.Attributes, int]], now: Instant) -> None:
        """Set what an instrument reads now; equal attribute sets add up.

        What is not among *values* any more: a gauge is forgotten at once, an updowncounter is 0 until it has been idle
        for long enough, a counter keeps its total.
        """
        totals: dict[NumberSeries, int] = {}
        for resource, attributes, value in values:
            series = self.number(row, resource, attributes, now)
            totals[series] = totals.get(series, 0) + value
        family = self._numbers.get(row)
        for series in family or ():
            if series in totals:
                series.value, series.touched_ns = totals[series], now.monotonic_ns
            elif row.kind is Kind.UPDOWNCOUNTER:
                series.value = 0
        if family and row.kind is Kind.GAUGE:
            family.forget(lambda series: series not in totals)

    def is_delta(self, row: Instrument) -> bool:
        """Tell whether an instrument is told as differences: counters and histograms may be."""
        if self._temporality == "cumulative" or (self._temporality == "lowmemory" and row.observed):
            return False
        return row.kind in (Kind.COUNTER, Kind.HISTOGRAM)

    def fold(self) -> None:
        """Count all pending exchanges."""
        for family in self.http.values():
            for series in family:
                series.fold()

    def collect(self, now: Instant) -> Snapshot:
        """Return all points of this interval, then forget what has been idle for too long.

        References to series and resources must not be kept over this call.
        """
        self.fold()
        rows: dict[Resource, dict[Instrument, list[Point]]] = {}
        for family in self._families():
            for series in family:
                if series.changed():
                    series.touched_ns = now.monotonic_ns
                metrics = rows.setdefault(series.resource, {})
                for row, point in series.points(now.unix_ns, self.is_delta):
                    metrics.setdefault(row, []).append(point)
        self._forget(now.monotonic_ns)
        return Snapshot([(resource, self._metrics(metrics)) for resource, metrics in rows.items() if metrics])

    def _metrics(self, metrics: dict[Instrument, list[Point]]) -> list[Metric]:
        return [Metric(row, self.is_delta(row), points) for row, points in metrics.items()]

    def _families(self) -> Iterator[Family[HttpSeries] | Family[NumberSeries] | Family[HistogramSeries]]:
        yield from self.http.values()
        yield from self._numbers.values()
        yield from self._histograms.values()

    def _forget(self, now_ns: int) -> None:
        oldest = now_ns - self._ttl_ns
        for family in self._families():
            self.forgotten += family.forget(lambda series: series.touched_ns <= oldest)
        living = {series.resource.workload: series.resource for family in self._families() for series in family}
        self._resources = living

    def __len__(self) -> int:
        return sum(len(family) for family in self._families())

    @property
    def refused(self) -> int:
        """Attribute sets that met the cardinality limit."""
        return sum(family.refused for family in self._families())


def _http_maker(rows: tuple[Instrument, ...], role: str) -> Callable[[Resource, wire.Attributes, Instant], HttpSeries]:
    def make(resource: Resource, attributes: wire.Attributes, now: Instant) -> HttpSeries:
        return HttpSeries(rows, role, resource, attributes, now)

    return make
