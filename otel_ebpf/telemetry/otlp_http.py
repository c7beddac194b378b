"""OTLP over HTTP: the SDK's client (endpoint, TLS, headers, compression, timeout, retry) carries bytes of ours.

In: export requests. Out: what the receiver answered.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS, Request
from otel_ebpf.telemetry.partial import rejected
from otel_ebpf.telemetry.worker import Result

_EXPORTERS: Final[dict[str, Any]] = {LOGS: OTLPLogExporter, SPANS: OTLPSpanExporter, METRICS: OTLPMetricExporter}


class _KeepsAnswer:
    """The SDK's transport, with the body of the last answer kept: the SDK itself never looks at it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.answer = b""

    def request(self, *args: Any, **named: Any) -> Any:
        """Send one HTTP request."""
        result = self._transport.request(*args, **named)
        self.answer = result.content()
        return result

    def is_connection_error(self, error: Exception | None) -> bool:
        """Tell whether trying again may help."""
        return bool(self._transport.is_connection_error(error))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class _Carrier:
    """One signal's client, as its exporter has set it up from the environment."""

    def __init__(self, signal: str, endpoint: str) -> None:
        self._client = _EXPORTERS[signal](endpoint=endpoint)._client  # noqa: SLF001 - all we want of it
        self._transport = self._client._transport = _KeepsAnswer(self._client._transport)  # noqa: SLF001 - the same

    def deliver(self, payload: bytes) -> tuple[str | None, bytes]:
        """Send bytes; return the error, None when there was none, and the answer."""
        result = self._client.export(payload)
        if result.success:
            return None, self._transport.answer
        status = f"HTTP {result.status_code} " if result.status_code else ""
        return f"{status}{result.reason or _innermost(result.error) or 'the export was given up'}", b""

    def close(self) -> None:
        """Give up retries and close the connections."""
        self._client.shutdown()


def _innermost(error: BaseException | None) -> BaseException | None:
    """Return what an error began with: the pool's and the session's words around it say nothing more."""
    while error is not None and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__
    return error


class HttpExporter:
    """Sends requests of the given signals, each to its endpoint."""

    def __init__(self, endpoints: dict[str, str]) -> None:
        self._carriers = {signal: _Carrier(signal, endpoint) for signal, endpoint in endpoints.items()}

    def export(self, request: Request) -> Result:
        """Send a request, with the SDK's retries within its timeout."""
        error, answer = self._carriers[request.signal].deliver(request.payload())
        return Result(error=error) if error is not None else Result(rejected=rejected(request.signal, answer))

    def close(self) -> None:
        """Give up retries and close the connections."""
        for carrier in self._carriers.values():
            carrier.close()
