"""OTLP over gRPC: the SDK's exporters (endpoint, TLS, headers, compression, timeout, retry) carry bytes of ours.

In: export requests. Out: what the receiver answered.
"""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped] # it has no annotations
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS, Request
from otel_ebpf.telemetry.partial import rejected
from otel_ebpf.telemetry.worker import Result

_METHODS: Final = {
    LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    SPANS: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


class _Client:
    """Stands where the SDK expects a stub: sends bytes as they are, keeps the answer or the error."""

    def __init__(self, channel: grpc.Channel, signal: str) -> None:
        self._call = channel.unary_unary(_METHODS[signal])
        self.answer = b""
        self.error = ""

    def Export(self, *, request: bytes, metadata: Any, timeout: float) -> None:  # noqa: N802 - the stub's name
        """Send one request; the SDK catches the ``grpc.RpcError`` and tries again."""
        try:
            self.answer = self._call(request, metadata=metadata, timeout=timeout)
        except grpc.RpcError as error:
            self.error = f"{error.code().name}: {error.details()}"
            raise


class _CarriesBytes:
    """Makes one of the SDK's exporters send requests that are encoded already."""

    _signal_name: str
    _client: Any
    _channel: grpc.Channel
    _result: Any
    _export: Any

    def _initialize_channel_and_stub(self) -> None:
        """The SDK calls this at first and whenever it reconnects."""
        error = self._client.error if getattr(self, "_client", None) else ""
        sdk: Any = super()
        sdk._initialize_channel_and_stub()  # noqa: SLF001 - what it overrides
        self._client = _Client(self._channel, self._signal_name)
        self._client.error = error

    def _translate_data(self, data: bytes) -> bytes:
        return data

    def _count_data(self, data: bytes) -> int:
        return len(data)

    def deliver(self, payload: bytes) -> tuple[str | None, bytes]:
        """Send bytes; return the error, None when there was none, and the answer."""
        self._client.answer, self._client.error = b"", ""
        if self._export(payload) is self._result.SUCCESS:
            return None, self._client.answer
        return self._client.error or "the export was given up", b""


def _carrier(signal: str, sdk: type) -> Any:
    return type(f"Carries{signal}", (_CarriesBytes, sdk), {"_signal_name": signal})


_CARRIERS: Final = {
    LOGS: _carrier(LOGS, OTLPLogExporter),
    SPANS: _carrier(SPANS, OTLPSpanExporter),
    METRICS: _carrier(METRICS, OTLPMetricExporter),
}


class GrpcExporter:
    """Sends requests of the given signals, each to its endpoint."""

    def __init__(self, endpoints: dict[str, str]) -> None:
        self._carriers = {signal: _CARRIERS[signal](endpoint=endpoint) for signal, endpoint in endpoints.items()}

    def export(self, request: Request) -> Result:
        """Send a request, with the SDK's retries within its timeout."""
        error, answer = self._carriers[request.signal].deliver(request.payload())
        return Result(error=error) if error is not None else Result(rejected=rejected(request.signal, answer))

    def close(self) -> None:
        """Give up retries and close the channels."""
        for carrier in self._carriers.values():
            carrier.shutdown()
