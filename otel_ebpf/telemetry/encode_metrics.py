"""OTLP bytes of metrics: a snapshot becomes an export request.

In: snapshots. Out: ``ExportMetricsServiceRequest`` bytes. Made on the exporting thread: the loop does not wait for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

from otel_ebpf.telemetry import wire
from otel_ebpf.telemetry.aggregate import Metric, Snapshot
from otel_ebpf.telemetry.batch import METRICS, Request, enclose, scope
from otel_ebpf.telemetry.instruments import Instrument, Kind
from otel_ebpf.telemetry.series import HistogramValue, Point, Resource

_POINT_BYTES: Final = 400
"""What a point of a snapshot takes in memory, about."""

_GAUGE: Final = 5
_SUM: Final = 7
_HISTOGRAM: Final = 9
"""``Metric.data``"""
_DELTA: Final = 1
_CUMULATIVE: Final = 2
"""``AggregationTemporality``"""

_TIMES: Final = struct.Struct("<cQcQ").pack
_START: Final = wire.tag(2, wire.FIXED64)
_TIME: Final = wire.tag(3, wire.FIXED64)
_COUNT: Final = struct.Struct("<cQcdcdcd").pack
_COUNT_TAG: Final = wire.tag(4, wire.FIXED64)
_SUM_TAG: Final = wire.tag(5, wire.FIXED64)
_MIN_TAG: Final = wire.tag(11, wire.FIXED64)
_MAX_TAG: Final = wire.tag(12, wire.FIXED64)


MOST_POINTS: Final = 2000
"""Points of one request, about a megabyte: gRPC servers refuse messages over 4 MiB unless told otherwise."""


def requests(snapshot: Snapshot, version: str, *, most_points: int = MOST_POINTS) -> Iterator[Request]:
    """Return a snapshot as export requests of at most so many points; nothing when it is empty."""
    for part in split(snapshot, most_points):
        points = part.points()
        yield Request(METRICS, points, points * _POINT_BYTES, partial(encode, part, version))


def split(snapshot: Snapshot, most_points: int) -> Iterator[Snapshot]:
    """Cut a snapshot in order; the points of one metric may come to stand in two parts."""
    rows: list[tuple[Resource, list[Metric]]] = []
    room = most_points
    for resource, metric in ((resource, metric) for resource, metrics in snapshot.rows for metric in metrics):
        points = metric.points
        while points:
            if not rows or rows[-1][0] is not resource:
                rows.append((resource, []))
            taken, points = points[:room], points[room:]
            rows[-1][1].append(Metric(metric.instrument, metric.delta, taken))
            room -= len(taken)
            if not room:
                yield Snapshot(rows)
                rows, room = [], most_points
    if rows:
        yield Snapshot(rows)


def encode(snapshot: Snapshot, version: str) -> bytes:
    """Return an ``ExportMetricsServiceRequest``, one ``ResourceMetrics`` per workload."""
    scope_field = scope(version)
    parts: list[bytes] = []
    for resource, metrics in snapshot.rows:
        parts += enclose(resource, scope_field, [_metric(metric) for metric in metrics])
    return b"".join(parts)


def _metric(metric: Metric) -> bytes:
    """Return ``ScopeMetrics.metrics``."""
    row = metric.instrument
    points = b"".join(_points(metric))
    temporality = b"" if row.kind is Kind.GAUGE else _enum(2, _DELTA if metric.delta else _CUMULATIVE)
    monotonic = _enum(3, 1) if row.kind is Kind.COUNTER else b""
    field = {Kind.GAUGE: _GAUGE, Kind.HISTOGRAM: _HISTOGRAM}.get(row.kind, _SUM)
    return wire.lengthy(2, _description(row) + wire.lengthy(field, points + temporality + monotonic))


@cache
def _description(row: Instrument) -> bytes:
    return wire.text(1, row.name) + wire.text(2, row.description) + wire.text(3, row.unit)


def _points(metric: Metric) -> Iterator[bytes]:
    row = metric.instrument
    for point in metric.points:
        value = point.value
        if isinstance(value, HistogramValue):
            yield wire.lengthy(1, _histogram(row, point, value))
        else:
            yield wire.lengthy(1, _number(row, point, value))


def _number(row: Instrument, point: Point, value: int) -> bytes:
    """Return a ``NumberDataPoint``; a gauge has no start."""
    number = (
        wire.double(4, value / row.scale) if row.scale != 1 else wire.tag(6, wire.FIXED64) + struct.pack("<q", value)
    )
    start = b"" if row.kind is Kind.GAUGE else wire.fixed64(2, point.start_ns)
    return start + wire.fixed64(3, point.time_ns) + number + point.labels.encoded(7)


def _histogram(row: Instrument, point: Point, value: HistogramValue) -> bytes:
    """Return a ``HistogramDataPoint``."""
    scale = row.scale
    return b"".join(
        (
            _TIMES(_START, point.start_ns, _TIME, point.time_ns),
            _COUNT(
                _COUNT_TAG, value.count, _SUM_TAG, value.total / scale,
                _MIN_TAG, value.low / scale, _MAX_TAG, value.high / scale,
            ),
            wire.lengthy(6, struct.pack(f"<{len(value.counts)}Q", *value.counts)),
            _bounds(row),
            point.labels.encoded(9),
        )
    )  # fmt: skip


@cache
def _bounds(row: Instrument) -> bytes:
    bounds = [bound / row.scale for bound in row.bounds]
    return wire.lengthy(7, struct.pack(f"<{len(bounds)}d", *bounds))


def _enum(field: int, value: int) -> bytes:
    return wire.tag(field, wire.VARINT) + wire.varint(value)
