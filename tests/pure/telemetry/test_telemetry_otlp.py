"""OTLP over gRPC and HTTP against servers that are there, absent, slow, refusing, and come back."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc  # type: ignore[import-untyped] # it has no annotations
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ebpf.config import Settings
from otel_ebpf.errors import SettingError
from otel_ebpf.telemetry.batch import Request
from otel_ebpf.telemetry.export import make_workers
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.otlp_grpc import GrpcExporter
from otel_ebpf.telemetry.otlp_http import HttpExporter
from otel_ebpf.telemetry.partial import rejected
from tests.pure.telemetry.making import bench, exchange

SERVICES = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}


@pytest.fixture(autouse=True)
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporters' own timeout, which bounds their retries, is a second."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


class Receiver(grpc.GenericRpcHandler):  # type: ignore[misc] # the same
    """A gRPC server that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes, dict[str, str]]] = []
        self.answer: Callable[[str], bytes] = lambda _: b""
        self.refusal: grpc.StatusCode | None = None
        self.delay_s = 0.0
        self.server: Any = None
        self.port = 0

    def service(self, details: Any) -> Any:
        """Take every OTLP method, with bytes as they are."""
        signal = SERVICES[details.method]
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._take(signal, request, context))

    def _take(self, signal: str, request: bytes, context: Any) -> bytes:
        time.sleep(self.delay_s)
        if self.refusal is not None:
            context.abort(self.refusal, "not now")
        self.got.append((signal, request, dict(context.invocation_metadata())))
        return self.answer(signal)

    def start(self) -> None:
        """Listen: on any port at first, on the same one afterwards."""
        self.server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(self,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        """Go away."""
        self.server.stop(0).wait()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that listens."""
    made = Receiver()
    made.start()
    yield made
    made.stop()


def grpc_exporter(receiver: Receiver) -> GrpcExporter:
    """Return an exporter of all signals."""
    return GrpcExporter(dict.fromkeys(("logs", "traces", "metrics"), f"http://127.0.0.1:{receiver.port}"))


def request(signal: str = "logs", payload: bytes = b"") -> Request:
    """Return a request of ten items."""
    return Request(signal, 10, len(payload), lambda: payload)


def test_grpc_delivers_bytes_as_they_are(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal arrives at its service byte for byte, with the headers of the environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    exporter = grpc_exporter(receiver)
    for signal in ("logs", "traces", "metrics"):
        result = exporter.export(request(signal, signal.encode()))
        assert (result.error, result.rejected) == (None, 0)
    assert [(signal, payload) for signal, payload, _ in receiver.got] == [
        ("logs", b"logs"),
        ("traces", b"traces"),
        ("metrics", b"metrics"),
    ]
    assert all(headers["x-tenant"] == "blue" for _, _, headers in receiver.got)
    exporter.close()


def test_grpc_compresses(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compression is the environment's to choose, and the receiver gets the plain bytes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter = grpc_exporter(receiver)
    assert exporter.export(request(payload=b"a" * 10_000)).error is None
    assert receiver.got[0][1] == b"a" * 10_000
    exporter.close()


def partial(signal: str) -> bytes:
    """Return an answer that refuses three items."""
    logs, spans, points = ExportLogsServiceResponse(), ExportTraceServiceResponse(), ExportMetricsServiceResponse()
    logs.partial_success.rejected_log_records = 3
    logs.partial_success.error_message = "no"
    spans.partial_success.rejected_spans = 3
    points.partial_success.rejected_data_points = 3
    return {"logs": logs, "traces": spans, "metrics": points}[signal].SerializeToString()


def test_grpc_partial_success(receiver: Receiver) -> None:
    """What a receiver refuses of a request that it took is known."""
    receiver.answer = partial
    exporter = grpc_exporter(receiver)
    assert [exporter.export(request(signal)).rejected for signal in ("logs", "traces", "metrics")] == [3, 3, 3]
    exporter.close()


def test_an_answer_that_is_none_refuses_nothing() -> None:
    """Bytes that are no answer of OTLP count as a plain success."""
    assert rejected("logs", b"\xff\xff") == 0


def test_grpc_refusal_is_not_tried_again(receiver: Receiver) -> None:
    """A status that cannot be retried is an error at once, and says what the receiver said."""
    receiver.refusal = grpc.StatusCode.INVALID_ARGUMENT
    exporter = grpc_exporter(receiver)
    assert exporter.export(request()).error == "INVALID_ARGUMENT: not now"
    exporter.close()


def test_grpc_absent_receiver_is_an_error_in_time() -> None:
    """Nobody listening is an error within the timeout, and names the reason."""
    missing = Receiver()
    missing.start()
    missing.stop()
    exporter = grpc_exporter(missing)
    begin = time.monotonic()
    error = exporter.export(request()).error
    assert time.monotonic() - begin < 5
    assert error is not None
    assert error.startswith("UNAVAILABLE: ")
    exporter.close()


def test_grpc_slow_receiver_is_an_error_in_time(receiver: Receiver) -> None:
    """A receiver slower than the timeout is an error."""
    receiver.delay_s = 3
    exporter = grpc_exporter(receiver)
    begin = time.monotonic()
    error = exporter.export(request()).error
    assert time.monotonic() - begin < 2.5
    assert error is not None
    assert error.startswith("DEADLINE_EXCEEDED: ")
    exporter.close()


def test_grpc_receiver_that_comes_back_is_used_again(receiver: Receiver) -> None:
    """After the receiver died and came back, exports succeed without anything being restarted."""
    exporter = grpc_exporter(receiver)
    assert exporter.export(request()).error is None
    receiver.stop()
    assert exporter.export(request()).error is not None
    receiver.start()
    deadline = time.monotonic() + 10
    while exporter.export(request()).error is not None:
        assert time.monotonic() < deadline
    exporter.close()


def test_closing_interrupts_retries(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that waits to try again gives up when the exporter is closed."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
    receiver.refusal = grpc.StatusCode.UNAVAILABLE
    exporter = grpc_exporter(receiver)
    errors: list[str | None] = []
    thread = threading.Thread(target=lambda: errors.append(exporter.export(request()).error))
    thread.start()
    time.sleep(0.5)
    exporter.close()
    thread.join(5)
    assert errors == ["UNAVAILABLE: not now"]


class Web(ThreadingHTTPServer):
    """An HTTP server that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, bytes, dict[str, str]]] = []
        self.status = 200
        self.answer = b""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_POST(self) -> None:
        """Keep the request, answer as told."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.got.append((self.path, body, {key.lower(): value for key, value in self.headers.items()}))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server that listens."""
    server = Web()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def http_exporter(url: str) -> HttpExporter:
    """Return an exporter of all signals."""
    return HttpExporter({signal: f"{url}/v1/{signal}" for signal in ("logs", "traces", "metrics")})


def test_http_delivers_bytes_as_they_are(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal arrives at its path, with content type, headers and compression of the environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter = http_exporter(web.url)
    for signal in ("logs", "traces", "metrics"):
        assert exporter.export(request(signal, signal.encode() * 100)).error is None
    assert [(path, body) for path, body, _ in web.got] == [
        ("/v1/logs", b"logs" * 100),
        ("/v1/traces", b"traces" * 100),
        ("/v1/metrics", b"metrics" * 100),
    ]
    assert {headers["content-type"] for _, _, headers in web.got} == {"application/x-protobuf"}
    assert {headers["x-tenant"] for _, _, headers in web.got} == {"blue"}
    exporter.close()


def test_http_partial_success(web: Web) -> None:
    """What a receiver refuses of a request that it took is known."""
    exporter = http_exporter(web.url)
    for signal in ("logs", "traces", "metrics"):
        web.answer = partial(signal)
        assert exporter.export(request(signal)).rejected == 3
    exporter.close()


def test_http_refusal_and_recovery(web: Web) -> None:
    """A refusal is an error with its status, an overload one within the timeout; then it works again."""
    exporter = http_exporter(web.url)
    web.status = 400
    assert exporter.export(request()).error == "HTTP 400 Bad Request"
    web.status = 503
    begin = time.monotonic()
    assert exporter.export(request()).error == "HTTP 503 Service Unavailable"
    assert time.monotonic() - begin < 5
    web.status = 200
    assert exporter.export(request()).error is None
    exporter.close()


def test_http_absent_receiver_is_an_error_in_time() -> None:
    """Nobody listening is an error within the timeout."""
    exporter = http_exporter("http://127.0.0.1:1")
    begin = time.monotonic()
    error = exporter.export(request()).error
    assert time.monotonic() - begin < 5
    assert error is not None
    assert "refused" in error
    exporter.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_whole_way(protocol: str, receiver: Receiver, web: Web) -> None:
    """With settings alone, exchanges arrive at a receiver as logs, spans and metrics, and the ledger closes."""
    endpoint = f"http://127.0.0.1:{receiver.port}" if protocol == "grpc" else web.url
    settings = Settings(
        otlp_endpoint=endpoint, otlp_protocol=protocol, metrics_exporter="otlp", logs_exporter="otlp",
        traces_exporter="otlp", exchange_logs="all", exchange_spans="all",
    )  # fmt: skip
    b = bench(exchange_logs="all", exchange_spans="all")
    ledger = Ledger()
    b.telemetry._workers = make_workers(settings, ledger)
    assert len(set(map(id, b.telemetry._workers.values()))) == 1
    for index in range(100):
        b.telemetry.exchange(exchange(sequence=index))
    b.telemetry.shutdown()
    got: list[tuple[str, bytes]] = [(signal, payload) for signal, payload, _ in receiver.got] or [
        (path.removeprefix("/v1/"), body) for path, body, _ in web.got
    ]
    assert sorted(signal for signal, _ in got) == ["logs", "metrics", "traces"]
    assert b"http.server.request.duration" in dict(got)["metrics"]
    assert (ledger.total("log", "exported"), ledger.total("span", "exported")) == (100, 100)
    assert ledger.total("log", "dropped") == ledger.open()["metric"] == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_only_what_is_exported_has_a_worker(protocol: str) -> None:
    """Signals with one destination share a worker, others have their own, and none has none."""
    settings = Settings(
        otlp_endpoint="http://127.0.0.1:1", otlp_protocol=protocol, otlp_metrics_protocol="grpc",
        metrics_exporter="otlp", logs_exporter="console", traces_exporter="none",
    )  # fmt: skip
    workers = make_workers(settings, Ledger())
    assert set(workers) == {"metrics", "logs"}
    assert workers["metrics"] is not workers["logs"]
    for worker in workers.values():
        worker.close(1)


def test_a_variable_that_the_sdk_refuses_is_a_setting_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout that is no number ends in one sentence, not in a traceback."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    settings = Settings(
        otlp_protocol="grpc", metrics_exporter="otlp", logs_exporter="otlp", traces_exporter="otlp",
    )  # fmt: skip
    with pytest.raises(SettingError, match=r"^OTEL_EXPORTER_OTLP_\*: could not convert string to float: 'soon'$"):
        make_workers(settings, Ledger())


def test_nothing_heavy_is_loaded_for_nothing() -> None:
    """An agent that exports nothing loads neither gRPC nor the SDK nor protobuf nor rich."""
    program = (
        "import sys; from otel_ebpf.telemetry import telemetry, export; from otel_ebpf.config import Settings;"
        "from otel_ebpf.telemetry.ledger import Ledger;"
        "s = Settings(metrics_exporter='none', logs_exporter='none', traces_exporter='none');"
        "assert export.make_workers(s, Ledger()) == {};"
        "heavy = ('grpc', 'opentelemetry.sdk', 'google.protobuf', 'rich', 'requests');"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
