"""Series: the running numbers of one attribute set of one workload.

In: integers (ns, bytes, counts). Out: points, as totals or as differences.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.instruments import Instrument


class Instant(NamedTuple):
    """One moment on both clocks, in ns: since boot, by which things age, and Unix time, which is told.

    What is told once is not reckoned again later: the offset between the clocks changes, and a backend takes a total
    with another start for another total.
    """

    monotonic_ns: int
    unix_ns: int


@runtime_checkable
class WorkloadLike(Protocol):
    """What telemetry needs of a workload: its whole Resource."""

    @property
    def attributes(self) -> tuple[tuple[str, str], ...]:
        """Resource attributes, sorted by key."""


class Resource:
    """One workload, compared by identity, so that using it in keys costs nothing.

    Attributes:
        workload: Who it is.
        attributes: Its Resource attributes, sorted.
    """

    __slots__ = ("attributes", "encoded", "workload")

    def __init__(self, workload: WorkloadLike) -> None:
        self.workload = workload
        self.attributes = workload.attributes
        self.encoded = wire.key_values(1, workload.attributes)
        """``opentelemetry.proto.resource.v1.Resource``"""


class Labels:
    """The attributes of a series and, once asked for, their bytes."""

    __slots__ = ("_encoded", "attributes")

    def __init__(self, attributes: wire.Attributes) -> None:
        self.attributes = attributes
        self._encoded: dict[int, bytes] = {}

    def encoded(self, field: int) -> bytes:
        """Return the attributes as field *field* of a data point."""
        known = self._encoded.get(field)
        if known is None:
            known = self._encoded[field] = wire.key_values(field, self.attributes)
        return known


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """A histogram at one instant, in the instrument's native integers; *low* and *high* are meaningless when empty."""

    count: int
    total: int
    low: int
    high: int
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One data point; times are Unix times in ns."""

    labels: Labels
    start_ns: int
    time_ns: int
    value: int | HistogramValue


class Histogram:
    """Counts by bucket; a value equal to a bound belongs below it (OTLP: upper bounds are inclusive)."""

    __slots__ = ("bounds", "count", "counts", "high", "low", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.counts = [0] * (len(self.bounds) + 1)
        self.count = self.total = self.low = self.high = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self._widen(value, value)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value

    def fold(self, values: list[int]) -> None:
        """Count many values, and sort the list; a negative value is an unknown one and left out.

        Sorting and looking for the bounds costs 40 ns a value; finding the bucket of each one would cost 130.
        """
        values.sort()
        if values and values[0] < 0:
            del values[: bisect_left(values, 0)]
        if not values:
            return
        self._widen(values[0], values[-1])
        self.total += sum(values)
        self.count += len(values)
        self._spread(values)

    def _spread(self, values: list[int]) -> None:
        counts, below, size = self.counts, 0, len(values)
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound, below)
            counts[index] += upto - below
            below = upto
            if below == size:
                return
        counts[-1] += size - below

    def _widen(self, low: int, high: int) -> None:
        if not self.count:
            self.low, self.high = low, high
            return
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    def value(self) -> HistogramValue:
        """Return what was counted."""
        return HistogramValue(self.count, self.total, self.low, self.high, tuple(self.counts))


class Series:
    """What all series have in common.

    Attributes:
        resource: The workload.
        labels: The attributes.
        start_ns: Since when its total counts, or in delta temporality its next difference; Unix time.
        touched_ns: When it was last found changed, ns since boot.
    """

    __slots__ = ("labels", "resource", "start_ns", "touched_ns")

    def __init__(self, resource: Resource, attributes: wire.Attributes, now: Instant) -> None:
        self.resource = resource
        self.labels = Labels(attributes)
        self.touched_ns, self.start_ns = now

    def changed(self) -> bool:
        """Tell whether something came in since the last call of ``points``."""
        raise NotImplementedError

    def points(self, unix_ns: int, is_delta: Callable[[Instrument], bool]) -> list[tuple[Instrument, Point]]:
        """Return the points of this collection, none when there is nothing to tell."""
        raise NotImplementedError


class NumberSeries(Series):
    """A counter, an updowncounter or a gauge.

    Attributes:
        value: The total, or the present value.
    """

    __slots__ = ("_fresh", "_sent", "instrument", "value")

    def __init__(self, instrument: Instrument, resource: Resource, attributes: wire.Attributes, now: Instant) -> None:
        super().__init__(resource, attributes, now)
        self.instrument = instrument
        self.value = self._sent = 0
        self._fresh = True

    def changed(self) -> bool:
        """Tell whether the value is another one, or was never told."""
        return self._fresh or self.value != self._sent

    def points(self, unix_ns: int, is_delta: Callable[[Instrument], bool]) -> list[tuple[Instrument, Point]]:
        """Return the total, or the difference since the last collection."""
        delta, changed = is_delta(self.instrument), self.changed()
        point = Point(self.labels, self.start_ns, unix_ns, self.value - self._sent if delta else self.value)
        self._sent, self._fresh = self.value, False
        if not delta:
            return [(self.instrument, point)]
        self.start_ns = unix_ns
        return [(self.instrument, point)] if changed else []


class HistogramSeries(Series):
    """One histogram."""

    __slots__ = ("_told", "histogram", "instrument")

    def __init__(self, instrument: Instrument, resource: Resource, attributes: wire.Attributes, now: Instant) -> None:
        super().__init__(resource, attributes, now)
        self.instrument = instrument
        self.histogram = Histogram(instrument.bounds)
        self._told = 0

    def changed(self) -> bool:
        """Tell whether a value was counted since the last collection."""
        return self.histogram.count != self._told

    def points(self, unix_ns: int, is_delta: Callable[[Instrument], bool]) -> list[tuple[Instrument, Point]]:
        """Return what was counted since the start, or since the last collection."""
        delta = is_delta(self.instrument)
        points = (
            [(self.instrument, Point(self.labels, self.start_ns, unix_ns, self.histogram.value()))]
            if self.histogram.count
            else []
        )
        if delta:
            self.histogram.reset()
            self.start_ns = unix_ns
        self._told = self.histogram.count
        return points


class HttpSeries(Series):
    """All six histograms of one attribute set of HTTP exchanges.

    They are always counted together, so they share one look-up and one list of values that wait to be folded.

    Attributes:
        pending: Values not folded yet, six to an exchange: duration, time to first byte, request header and body,
            response header and body; -1 where unknown. The hot path extends this list and does nothing else.
        exchanges: Exchanges folded.
    """

    __slots__ = ("_instruments", "_role_labels", "_told", "exchanges", "histograms", "pending")

    WIDTH = 6
    UNKNOWN = -1

    def __init__(
        self,
        instruments: tuple[Instrument, ...],
        role: str,
        resource: Resource,
        attributes: wire.Attributes,
        now: Instant,
    ) -> None:
        super().__init__(resource, attributes, now)
        with_role = Labels((*attributes, (names.ROLE, role)))
        self._instruments = instruments
        self._role_labels = tuple(with_role if names.ROLE in row.attributes else self.labels for row in instruments)
        self.histograms = tuple(Histogram(row.bounds) for row in instruments)
        self.pending: list[int] = []
        self.exchanges = self._told = 0

    def fold(self) -> None:
        """Count what is pending."""
        pending, width = self.pending, self.WIDTH
        if pending:
            self.exchanges += len(pending) // width
            for column, histogram in enumerate(self.histograms):
                histogram.fold(pending[column::width])
            pending.clear()

    def changed(self) -> bool:
        """Tell whether an exchange was folded since the last collection."""
        return self.exchanges != self._told

    def points(self, unix_ns: int, is_delta: Callable[[Instrument], bool]) -> list[tuple[Instrument, Point]]:
        """Return the points of those histograms that have values."""
        points = []
        for row, labels, histogram in zip(self._instruments, self._role_labels, self.histograms, strict=True):
            if histogram.count:
                points.append((row, Point(labels, self.start_ns, unix_ns, histogram.value())))
                if is_delta(row):
                    histogram.reset()
        if is_delta(self._instruments[0]):
            self.start_ns = unix_ns
        self._told = self.exchanges
        return points
