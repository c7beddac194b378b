"""Metrics as tables: HTTP by route, connections by edge, and a line about the agent.

In: an ``ExportMetricsServiceRequest`` with differences since the last one. Out: things that rich can print.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry import names
from otel_ebpf.telemetry.console_text import attributes_of, duration, plain, service, size

MOST_ROWS: Final = 20
"""Rows of a table; the rest is counted in one line: a screen is not higher than two of them."""

_SENT: Final = "transmit"
_DELTA: Final = 1
"""``AGGREGATION_TEMPORALITY_DELTA``: what an interval's length can be read from."""
Key = tuple[str, ...]


@dataclass(slots=True)
class Cell:
    """What adds up under one row."""

    numbers: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: list[int] = field(default_factory=list)
    bounds: tuple[float, ...] = ()
    high: float = 0.0

    def histogram(self, point: Any) -> None:
        """Add the buckets of a point."""
        if not self.counts:
            self.counts, self.bounds = [0] * len(point.bucket_counts), tuple(point.explicit_bounds)
        self.counts = [mine + new for mine, new in zip(self.counts, point.bucket_counts, strict=True)]
        self.high = max(self.high, point.max)

    def quantile(self, share: float) -> float:
        """Estimate a quantile: linear inside its bucket, never above the maximum."""
        rank, below = share * sum(self.counts), 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = self.bounds[index - 1] if index else 0.0
                top = min(self.bounds[index], self.high) if index < len(self.bounds) else self.high
                return min(low + max(top - low, 0.0) * (rank - below) / count, self.high)
            below += count
        return self.high

    def mean(self, name: str) -> float | None:
        """Return the mean of a histogram that was added up as sum and count."""
        count = self.numbers[f"{name}.count"]
        return self.numbers[f"{name}.sum"] / count if count else None


@dataclass(slots=True)
class Report:
    """Everything in one request, sorted into rows."""

    http: defaultdict[Key, Cell] = field(default_factory=lambda: defaultdict(Cell))
    edges: defaultdict[Key, Cell] = field(default_factory=lambda: defaultdict(Cell))
    served: set[Key] = field(default_factory=set)
    """Edges whose workload is the serving end: not every instrument says the role."""
    agent: defaultdict[Key, float] = field(default_factory=lambda: defaultdict(float))
    begin_ns: int = 0
    end_ns: int = 0

    @property
    def seconds(self) -> float:
        """Length of the interval."""
        return max((self.end_ns - self.begin_ns) / 1e9, 1e-3) if self.begin_ns else 1.0


def tables(message: Any) -> Iterator[RenderableType]:
    """Return what to print of a request."""
    report = Report()
    for resource in message.resource_metrics:
        name = service(resource.resource)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                _sort_in(report, name, metric)
    moment = datetime.fromtimestamp(report.end_ns / 1e9, UTC).astimezone()
    yield Rule(f"{moment:%H:%M:%S}, the last {report.seconds:.3g} s", align="left", style="dim", characters="─")
    if report.http:
        yield _http_table(report)
    if report.edges:
        yield _edge_table(report)
    yield _agent_line(report)


def _sort_in(report: Report, name: str, metric: Any) -> None:
    data = getattr(metric, metric.WhichOneof("data"))
    for point in data.data_points:
        found = attributes_of(point.attributes)
        if metric.name in (table.SERVER_DURATION.name, table.CLIENT_DURATION.name):
            role = "client" if metric.name == table.CLIENT_DURATION.name else "server"
            _add_http(report.http[_http_key(name, role, found)], point, found)
        elif metric.name.startswith(("ebpf.tcp.", "ebpf.network.")):
            key = _edge_key(name, found)
            _add_edge(report.edges[key], metric.name, point, found)
            if found.get(names.ROLE) == "server":
                report.served.add(key)
        elif metric.name.startswith(("otel_ebpf.", "process.")):
            _add_agent(report, metric.name, point, found)
        if metric.WhichOneof("data") != "gauge" and data.aggregation_temporality == _DELTA:
            report.begin_ns = min(report.begin_ns or point.start_time_unix_nano, point.start_time_unix_nano)
        report.end_ns = max(report.end_ns, point.time_unix_nano)


def _peer(found: dict[str, Any]) -> str:
    name = found.get(names.SERVICE_PEER_NAME) or found.get(names.SERVER_ADDRESS) or found.get(names.PEER_TYPE, "?")
    return plain(str(name))


def _port(found: dict[str, Any]) -> str:
    port = found.get(names.SERVER_PORT)
    return f":{port}" if port else ""


def _http_key(name: str, role: str, found: dict[str, Any]) -> Key:
    """Return a row's workload, arrow, other end and request; the port stands with the end that serves on it."""
    if names.OVERFLOW in found:
        return name, "", "(beyond the cardinality limit)", ""
    route = found.get(names.HTTP_ROUTE) or found.get(names.URL_TEMPLATE) or ""
    request = plain(f"{found.get(names.HTTP_REQUEST_METHOD, '-')} {route}")
    if role == "client":
        return name, "→", _peer(found) + _port(found), request
    return name + _port(found), "←", _peer(found), request


def _edge_key(name: str, found: dict[str, Any]) -> Key:
    if names.OVERFLOW in found:
        return name, "(beyond the cardinality limit)", ""
    return name, _peer(found), _port(found)


def _add_http(cell: Cell, point: Any, found: dict[str, Any]) -> None:
    cell.histogram(point)
    cell.numbers["errors"] += point.count if names.ERROR_TYPE in found else 0


def _add_edge(cell: Cell, metric: str, point: Any, found: dict[str, Any]) -> None:
    if hasattr(point, "bucket_counts"):
        cell.numbers[f"{metric}.sum"] += point.sum
        cell.numbers[f"{metric}.count"] += point.count
        return
    if metric == table.NETWORK_IO.name:
        metric = "sent" if found.get(names.NETWORK_IO_DIRECTION) == _SENT else "received"
    elif metric == table.CONNECTIONS.name and names.ERROR_TYPE in found:
        metric = "failed"
    cell.numbers[metric] += point.as_int


def _add_agent(report: Report, metric: str, point: Any, found: dict[str, Any]) -> None:
    if metric == table.RECORDS.name:
        report.agent["record", *(str(found.get(key, "")) for key in (names.STAGE, names.OUTCOME, names.REASON))] += (
            point.as_int
        )
    elif not hasattr(point, "bucket_counts"):
        report.agent[(metric,)] += point.as_int or point.as_double


def _table(title: str, columns: Iterable[tuple[str, bool]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name, is_number in columns:
        made.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
    return made


def _http_table(report: Report) -> Table:
    made = _table(
        "HTTP",
        (
            ("workload", False), ("", False), ("other end", False), ("request", False), ("count", True),
            ("/s", True), ("errors", True), ("p50", True), ("p95", True), ("max", True),
        ),
    )  # fmt: skip
    rows = sorted(report.http.items(), key=lambda row: (-sum(row[1].counts), row[0]))
    for (name, arrow, peer, request), cell in rows[:MOST_ROWS]:
        count, errors = sum(cell.counts), int(cell.numbers["errors"])
        made.add_row(
            Text(name, "bold"), arrow, peer, request, f"{count:,}",
            f"{count / report.seconds:,.1f}", Text(f"{errors:,}" if errors else "", "red"),
            duration(cell.quantile(0.5)), duration(cell.quantile(0.95)), duration(cell.high),
        )  # fmt: skip
    _more(made, len(rows))
    return made


def _edge_table(report: Report) -> Table:
    made = _table(
        "Connections",
        (
            ("workload", False), ("", False), ("other end", False), ("new", True), ("failed", True), ("open", True),
            ("handshake", True), ("rtt", True), ("resent", True), ("resets", True), ("sent", True), ("received", True),
        ),
    )  # fmt: skip
    rows = sorted(report.edges.items(), key=lambda row: (-row[1].numbers["sent"] - row[1].numbers["received"], row[0]))
    rows = [(key, cell) for key, cell in rows if any(cell.numbers.values())]
    for key, cell in rows[:MOST_ROWS]:
        name, peer, port = key
        ends = (name + port, "←", peer) if key in report.served else (name, "→", peer + port)
        made.add_row(Text(ends[0], "bold"), *ends[1:], *_edge_cells(cell))
    _more(made, len(rows))
    return made


def _edge_cells(cell: Cell) -> Iterator[Text | str]:
    numbers = cell.numbers
    yield _number(numbers[table.CONNECTIONS.name])
    yield Text(_number(numbers["failed"]), "red")
    yield _number(numbers[table.CONNECTIONS_ACTIVE.name])
    for name in (table.HANDSHAKE_DURATION.name, table.RTT.name):
        mean = cell.mean(name)
        yield "" if mean is None else duration(mean)
    yield Text(_number(numbers[table.RETRANSMITS.name]), "yellow")
    yield Text(_number(numbers[table.RESETS.name]), "yellow")
    yield size(numbers["sent"])
    yield size(numbers["received"])


def _number(number: float) -> str:
    return f"{number:,.0f}" if number else ""


def _more(made: Table, rows: int) -> None:
    if rows > MOST_ROWS:
        made.caption, made.caption_justify = f"… and {rows - MOST_ROWS:,} more", "left"


def _agent_line(report: Report) -> Text:
    """Say what the agent itself took and lost in this interval."""
    agent = report.agent
    line = Text("agent: ", "dim")
    seen = sum(n for key, n in agent.items() if key[:3] == ("record", "exchange", "seen"))
    line.append(f"{seen:,.0f} exchanges, {agent[(table.FLOWS.name,)]:,.0f} flows")
    if (table.CPU_TIME.name,) in agent:
        line.append(f", {agent[(table.CPU_TIME.name,)] / report.seconds:.3f} core")
        line.append(f", {size(agent[(table.MEMORY_USAGE.name,)])}")
    lost = {key[1:]: n for key, n in sorted(agent.items()) if key[0] == "record" and key[2] == "dropped" and n}
    for (stage, _, reason), n in lost.items():
        line.append(f" · {stage}: {n:,.0f} dropped ({reason or 'no reason given'})", "bold yellow")
    line.append("\n")
    return line
