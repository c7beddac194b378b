"""What the tests of telemetry are made of: edges, exchanges, an enricher with fixed answers, a worker that keeps."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ebpf.clock import FixedClock
from otel_ebpf.config import Settings
from otel_ebpf.kernel import layout
from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, EdgeKey, FlowRecord
from otel_ebpf.telemetry.batch import Request
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.series import WorkloadLike
from otel_ebpf.telemetry.telemetry import Telemetry

START_NS = 5_000_000_000_000
OFFSET_NS = 1_700_000_000_000_000_000
S = 10**9
MS = 10**6
SALT = b"0123456789abcdef"


@dataclass(frozen=True)
class SomeWorkload:
    """A workload."""

    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SomePeer:
    """Another end."""

    type: str = "external"
    name: str | None = None
    namespace: str | None = None
    address: str | None = None


def workload(name: str) -> SomeWorkload:
    """Return a workload that is only its name."""
    return SomeWorkload((("service.name", name),))


@dataclass
class SomeEnricher:
    """Answers by fixed rules: the workload is the comm, routes are the first segment."""

    the_peer: SomePeer = field(default_factory=SomePeer)
    unwatched: set[bytes] = field(default_factory=set)
    sends_spans: bool = False
    aged: int = 0
    requests: list[bytes] = field(default_factory=list)
    name_of: Callable[[EdgeKey], str] = lambda edge: edge.comm.decode()

    def workload(self, edge: EdgeKey) -> WorkloadLike:
        """Return the workload."""
        return workload(self.name_of(edge))

    def peer(self, edge: EdgeKey) -> SomePeer:
        """Return the other end."""
        del edge
        return self.the_peer

    def route(self, workload: WorkloadLike, method: bytes, path: bytes) -> str:
        """Return the first segment."""
        del workload, method
        return "/" + path.split(b"/")[1].decode("utf-8", "replace")

    def watched(self, edge: EdgeKey) -> bool:
        """Tell whether anybody wants it."""
        return edge.comm not in self.unwatched

    def note_request(self, edge: EdgeKey, workload: WorkloadLike, path: bytes) -> None:
        """Keep the path."""
        del edge, workload
        self.requests.append(path)

    def instrumented(self, workload: WorkloadLike) -> bool:
        """Tell whether it sends spans."""
        del workload
        return self.sends_spans

    def age(self) -> None:
        """Count the calls."""
        self.aged += 1


def raw_edge(
    comm: bytes = b"nginx", role: int = ROLE_SERVER, remote: str = "10.0.0.7", port: int = 80, local: str = "10.0.0.1"
) -> bytes:
    """Return the 72 bytes of an edge."""
    family = 4 if ipaddress.ip_address(remote).version == 4 else 6
    return layout.EDGE_KEY.pack(
        comm, 77, 1000, 4026531840, ipaddress.ip_address(local).packed, ipaddress.ip_address(remote).packed,
        port, family, role, 0,
    )  # fmt: skip


CLIENT = raw_edge(b"curl", ROLE_CLIENT)
SERVER = raw_edge()


def exchange(**changes: Any) -> Exchange:
    """Return an exchange of 12 ms: 1 ms request, 8 ms wait, 3 ms response."""
    values: dict[str, Any] = {
        "flow_id": 42, "sequence": 1, "edge": SERVER, "local_port": 80, "remote_port": 40123, "method": b"GET",
        "target": b"/users/7?x=1", "version": "1.1", "status": 200,
        "request_first_ns": START_NS, "request_last_ns": START_NS + 1 * MS,
        "response_first_ns": START_NS + 9 * MS, "response_last_ns": START_NS + 12 * MS,
        "host": b"example.com", "user_agent": b"curl/8.0", "request_header_bytes": 78, "request_body_bytes": 0,
        "response_header_bytes": 230, "response_body_bytes": 612, "srtt_us": 150,
    }  # fmt: skip
    return Exchange(**(values | changes))


def flow(**changes: Any) -> FlowRecord:
    """Return a flow that was established a millisecond ago."""
    values: dict[str, Any] = {
        "flags": 0, "id": 42, "edge": SERVER, "local_port": 80, "remote_port": 40123, "protocol": 1, "state": 1,
        "error": 0, "opened_ns": START_NS - MS, "established_ns": START_NS, "handshake_ns": MS,
        "accepted_ns": START_NS + 2 * MS, "closed_ns": 0, "bytes_sent": 0, "bytes_received": 0, "packets_sent": 0,
        "packets_received": 0, "reads": 0, "writes": 0, "srtt_us": 0, "retransmits": (0,) * 6,
    }  # fmt: skip
    return FlowRecord(**(values | changes))


@dataclass(eq=False)
class Kept:
    """A worker that keeps what it is given, and delivers nothing."""

    requests: list[Request] = field(default_factory=list)
    closed: int = 0

    def submit(self, request: Request) -> None:
        """Keep it."""
        self.requests.append(request)

    def drain(self, timeout_s: float) -> None:
        """Nothing waits."""

    def close(self, timeout_s: float) -> None:
        """Count the calls."""
        del timeout_s
        self.closed += 1

    def messages(self, signal: str) -> list[Any]:
        """Return the requests of a signal, decoded by the official library."""
        kind: Any = {
            "logs": ExportLogsServiceRequest,
            "traces": ExportTraceServiceRequest,
            "metrics": ExportMetricsServiceRequest,
        }[signal]
        return [kind.FromString(request.payload()) for request in self.requests if request.signal == signal]

    def logs(self) -> list[Any]:
        """Return all log records."""
        return [
            record
            for message in self.messages("logs")
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def spans(self) -> list[Any]:
        """Return all spans."""
        return [
            span
            for message in self.messages("traces")
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def value_of(value: Any) -> Any:
    """Return what an AnyValue holds."""
    kind = value.WhichOneof("value")
    return [value_of(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes(fields: Any) -> dict[str, Any]:
    """Return KeyValues as a dict; a key that comes twice is an error."""
    found = {field.key: value_of(field.value) for field in fields}
    assert len(found) == len(fields)
    return found


def metrics(message: Any) -> dict[str, dict[str, Any]]:
    """Return the metrics of a request by service, then by name; a name that comes twice is an error."""
    found: dict[str, dict[str, Any]] = {}
    for resource in message.resource_metrics:
        service = attributes(resource.resource.attributes)["service.name"]
        assert service not in found
        rows = found[service] = {}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.name not in rows
                rows[metric.name] = metric
    return found


def points(metric: Any) -> list[Any]:
    """Return the data points of a metric."""
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


@dataclass
class Bench:
    """A whole Telemetry with its clock, worker, ledger and enricher at hand."""

    telemetry: Telemetry[WorkloadLike]
    clock: FixedClock
    kept: Kept
    ledger: Ledger
    enricher: SomeEnricher

    def advance(self, ns: int) -> None:
        """Let time pass, and the loop turn."""
        self.clock.advance(ns)
        self.telemetry.tick(self.clock.now_ns)

    def collect(self) -> dict[str, dict[str, Any]]:
        """Collect now, and return the metrics."""
        self.telemetry.collect()
        return metrics(self.kept.messages("metrics")[-1])

    def count(
        self, line: bytes = b"GET /a HTTP/1.1", status: bytes = b"200", edge: bytes = SERVER, **sizes: int
    ) -> bool:
        """Count an ordinary exchange of 12 ms."""
        values = {
            "duration_ns": 12 * MS,
            "first_byte_ns": 9 * MS,
            "header": 78,
            "body": 0,
            "rheader": 230,
            "rbody": 612,
        }
        values |= sizes
        return self.telemetry.count(edge, line, status, *values.values())


def bench(enricher: SomeEnricher | None = None, signals: str = "metrics logs traces", **settings: Any) -> Bench:
    """Make a Telemetry whose requests are kept."""
    kept, ledger, clock = Kept(), Ledger(), FixedClock(START_NS, OFFSET_NS)
    enricher = enricher or SomeEnricher()
    values: dict[str, Any] = {"metrics_exporter": "otlp", "metric_interval_s": 60.0} | settings
    telemetry = Telemetry(
        settings=Settings(**values),
        clock=clock,
        enricher=enricher,
        ledger=ledger,
        workers=dict.fromkeys(signals.split(), kept),
        resource=workload("otel-ebpf"),
        version="1.2.3",
        salt=SALT,
    )
    return Bench(telemetry, clock, kept, ledger, enricher)
