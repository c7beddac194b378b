"""Reads OTLP/JSON lines, as the Collector's file exporter and the agent's ``otlp_file`` write them.

In: lines, each an export request of one signal. Out: flat rows of logs, spans and points with plain Python values.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.support.clients import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

Value = Any  # of an attribute: str, bool, int, float, bytes, list or dict
_EXCHANGE_EVENT: Final = "ebpf.http.exchange"
_DELTA: Final = 1  # AGGREGATION_TEMPORALITY_DELTA of metrics.proto
_SIGNALS: Final = ("resourceLogs", "resourceSpans", "resourceMetrics")


@dataclass(frozen=True, slots=True)
class Scoped:
    """What every row has: its Resource, its scope's name and its attributes."""

    resource: Mapping[str, Value]
    scope: str
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Log(Scoped):
    """A log record; times in ns since 1970, ids as lower-case hex."""

    event_name: str
    time_ns: int
    severity: int
    body: Value
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span(Scoped):
    """A span; kind and status as in trace.proto."""

    name: str
    kind: int
    start_ns: int
    end_ns: int
    trace_id: str
    span_id: str
    parent_span_id: str
    status: int
    events: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Point(Scoped):
    """A data point of a metric. *value* is its number (a histogram's sum); *count* is 1 unless it is a histogram."""

    metric: str
    unit: str
    kind: str
    delta: bool
    monotonic: bool
    start_ns: int
    time_ns: int
    value: float
    count: int
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]


@dataclass(slots=True)
class Telemetry:
    """Everything that arrived, in order."""

    logs: list[Log] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    @classmethod
    def of_file(cls, path: Path) -> Telemetry:
        """The rows of a file; a last line without its end is still being written and left out."""
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return cls.of_lines(text[: text.rfind("\n") + 1].splitlines())

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> Telemetry:
        """The rows of some lines; raises ValueError for a line that is not an export request."""
        found = cls()
        for line in lines:
            if line:
                found.add(json.loads(line))
        return found

    def add(self, request: dict[str, Any]) -> None:
        """Take in one export request."""
        if not any(signal in request for signal in _SIGNALS):
            raise ValueError(f"neither logs nor spans nor metrics: {sorted(request)}")
        self.logs += _logs(request)
        self.spans += _spans(request)
        self.points += _points(request)

    def exchanges(self, role: str, **attributes: Value) -> list[Log]:
        """The exchange records of one role (client or server) that have the attributes; write dots as ``__``."""
        wanted = {"ebpf.role": role, **_dotted(attributes)}
        return [log for log in self.logs if log.event_name == _EXCHANGE_EVENT and _has(log, wanted)]

    def exchange_counts(self, role: str, **attributes: Value) -> Counter[Exchange]:
        """The exchange records as the clients count them; an absent size is -1, other absent things empty or 0."""
        return Counter(exchange_of(log) for log in self.exchanges(role, **attributes))

    def series(self, metric: str, **attributes: Value) -> dict[tuple[Any, ...], tuple[float, int]]:
        """Per series (Resource and attributes): its total value and its total count, whatever the temporality."""
        totals: dict[tuple[Any, ...], tuple[float, int]] = {}
        for point in self.points:
            if point.metric != metric or not _has(point, _dotted(attributes)):
                continue
            key = (_frozen(point.resource), _frozen(point.attributes), point.start_ns if not point.delta else 0)
            value, count = totals.get(key, (0.0, 0)) if point.delta else (0.0, 0)
            totals[key] = (value + point.value, count + point.count)
        return totals

    def total(self, metric: str, **attributes: Value) -> float:
        """The sum over all series that have the attributes."""
        return sum(value for value, _ in self.series(metric, **attributes).values())

    def count(self, metric: str, **attributes: Value) -> int:
        """The number of measurements in a histogram over all series that have the attributes."""
        return sum(count for _, count in self.series(metric, **attributes).values())


def exchange_of(row: Scoped) -> Exchange:
    """A record of an exchange as clients count them; a size that is absent counts as -1."""
    attributes = row.attributes
    return Exchange(
        attributes.get("http.request.method_original", attributes.get("http.request.method", "")),
        attributes.get("url.path", ""),  # CONNECT has none
        attributes.get("http.response.status_code", 0),
        attributes.get("http.response.body.size", -1),
        attributes.get("http.request.body.size", -1),
    )


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def _has(row: Scoped, wanted: Mapping[str, Value]) -> bool:
    return all(row.attributes.get(name, row.resource.get(name)) == value for name, value in wanted.items())


def _frozen(attributes: Mapping[str, Value]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in attributes.items()))


def _each(request: dict[str, Any], signal: str, rows: str) -> Iterator[tuple[dict[str, Value], str, dict[str, Any]]]:
    """Resource attributes, scope name and row of every row of a signal."""
    for resource in request.get(f"resource{signal}", ()):
        attributes = _attributes(resource.get("resource", {}))
        for scope in resource.get(f"scope{signal}", ()):
            for row in scope.get(rows, ()):
                yield attributes, scope.get("scope", {}).get("name", ""), row


def _attributes(holder: dict[str, Any]) -> dict[str, Value]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in holder.get("attributes", ())}


def _value(any_value: dict[str, Any]) -> Value:
    for kind, value in any_value.items():
        match kind:
            case "intValue":
                return int(value)
            case "arrayValue":
                return [_value(one) for one in value.get("values", ())]
            case "kvlistValue":
                return {pair["key"]: _value(pair["value"]) for pair in value.get("values", ())}
            case _:
                return value
    return None


def _logs(request: dict[str, Any]) -> Iterator[Log]:
    for resource, scope, row in _each(request, "Logs", "logRecords"):
        yield Log(
            resource=resource,
            scope=scope,
            attributes=_attributes(row),
            event_name=row.get("eventName", ""),
            time_ns=int(row.get("timeUnixNano", 0)),
            severity=row.get("severityNumber", 0),
            body=_value(row.get("body", {})),
            trace_id=row.get("traceId", ""),
            span_id=row.get("spanId", ""),
        )


def _spans(request: dict[str, Any]) -> Iterator[Span]:
    for resource, scope, row in _each(request, "Spans", "spans"):
        yield Span(
            resource=resource,
            scope=scope,
            attributes=_attributes(row),
            name=row["name"],
            kind=row.get("kind", 0),
            start_ns=int(row["startTimeUnixNano"]),
            end_ns=int(row["endTimeUnixNano"]),
            trace_id=row["traceId"],
            span_id=row["spanId"],
            parent_span_id=row.get("parentSpanId", ""),
            status=row.get("status", {}).get("code", 0),
            events=tuple((event["name"], int(event["timeUnixNano"])) for event in row.get("events", ())),
        )


def _points(request: dict[str, Any]) -> Iterator[Point]:
    for resource, scope, metric in _each(request, "Metrics", "metrics"):
        for kind in ("sum", "gauge", "histogram"):
            for row in metric.get(kind, {}).get("dataPoints", ()):
                yield _point(resource, scope, metric, kind, row)


def _point(resource: dict[str, Value], scope: str, metric: dict[str, Any], kind: str, row: dict[str, Any]) -> Point:
    number = row.get("sum", row.get("asDouble", row.get("asInt", 0)))
    return Point(
        resource=resource,
        scope=scope,
        attributes=_attributes(row),
        metric=metric["name"],
        unit=metric.get("unit", ""),
        kind=kind,
        delta=metric[kind].get("aggregationTemporality") == _DELTA,
        monotonic=metric[kind].get("isMonotonic", False),
        start_ns=int(row.get("startTimeUnixNano", 0)),
        time_ns=int(row["timeUnixNano"]),
        value=float(number),
        count=int(row.get("count", 1)) if kind == "histogram" else 1,
        bounds=tuple(float(bound) for bound in row.get("explicitBounds", ())),
        buckets=tuple(int(bucket) for bucket in row.get("bucketCounts", ())),
    )
