"""Partial success: how much a receiver refused of a request that it took (OTLP specification, "Partial Success").

In: the body of an answer. Out: a number of records, spans or data points.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS

_ANSWERS: Final[dict[str, tuple[Any, str]]] = {
    LOGS: (ExportLogsServiceResponse, "rejected_log_records"),
    SPANS: (ExportTraceServiceResponse, "rejected_spans"),
    METRICS: (ExportMetricsServiceResponse, "rejected_data_points"),
}


def rejected(signal: str, answer: bytes) -> int:
    """Return how many were refused; an answer that says nothing we understand refuses nothing."""
    message, field = _ANSWERS[signal]
    try:
        return int(getattr(message.FromString(answer).partial_success, field))
    except DecodeError:
        return 0
