"""OTLP/JSON and the file it goes to."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from otel_ebpf.config import Settings
from otel_ebpf.errors import SettingError
from otel_ebpf.protocols.exchange import TraceContext
from otel_ebpf.telemetry import otlp_json
from otel_ebpf.telemetry.batch import Request
from otel_ebpf.telemetry.export import make_workers
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.otlp_file import FileExporter
from tests.pure.telemetry.making import OFFSET_NS, START_NS, Bench, bench, exchange, raw_edge


def busy(**settings: Any) -> Bench:
    """Return a bench after a few exchanges of each kind."""
    b = bench(exchange_logs="all", exchange_spans="all", **settings)
    for index in range(5):
        if b.count(b"GET /a%d HTTP/1.1" % index):
            b.telemetry.detail(exchange(sequence=index))
    b.telemetry.exchange(
        exchange(trace=TraceContext(b"t" * 16, b"p" * 8, None), status=None, missing=("response",), error_type="reset")
    )
    b.telemetry.exchange(exchange(edge=raw_edge(b"other", 1), target='/ü"\n'.encode()))
    b.telemetry.shutdown()
    return b


@pytest.mark.parametrize("kind", ["logs", "traces", "metrics"])
def test_json_is_the_protobuf_mapping(kind: str) -> None:
    """Each line says what the official JSON mapping says, but for ids in hex and enums as numbers as OTLP asks."""
    b = busy()
    for request in b.kept.requests:
        if request.signal == kind:
            payload = request.payload()
            official = json_format.MessageToDict(otlp_json.parse(kind, payload), use_integers_for_enums=True)
            assert json.loads(otlp_json.line(kind, payload)) == _in_hex(official)


def _in_hex(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_hex(item) for item in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex() if key in ("traceId", "spanId", "parentSpanId") else _in_hex(item)
            for key, item in value.items()
        }
    return value


def test_a_log_line() -> None:
    """Integers of 64 bits are strings, ids lower-case hex, enums numbers, one line for a request."""
    b = busy()
    [request] = [request for request in b.kept.requests if request.signal == "logs"]
    line = otlp_json.line("logs", request.payload())
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    record = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["timeUnixNano"] == str(START_NS + OFFSET_NS)
    assert record["severityNumber"] == 9
    assert re.fullmatch("[0-9a-f]{32}", record["traceId"])
    assert re.fullmatch("[0-9a-f]{16}", record["spanId"])
    assert {"key": "http.response.status_code", "value": {"intValue": "200"}} in record["attributes"]
    assert {"key": "ebpf.exchange.complete", "value": {"boolValue": True}} in record["attributes"]
    assert {"key": "ebpf.phase.wait.duration", "value": {"doubleValue": 0.008}} in record["attributes"]


def test_a_metric_line() -> None:
    """Counts are strings, bounds and sums numbers, temporality an integer."""
    b = busy()
    [request] = [request for request in b.kept.requests if request.signal == "metrics"]
    rows = json.loads(otlp_json.line("metrics", request.payload()))["resourceMetrics"]
    metrics = {metric["name"]: metric for metric in rows[0]["scopeMetrics"][0]["metrics"]}
    histogram = metrics["http.server.request.duration"]["histogram"]
    assert histogram["aggregationTemporality"] == 2
    point = histogram["dataPoints"][0]
    assert point["count"] == "1"
    assert point["bucketCounts"][2] == "1"
    assert point["explicitBounds"][0] == 0.005


def settings(path: Path | str, **more: Any) -> Settings:
    """Return settings that send everything to one file."""
    return Settings(
        otlp_file=str(path),
        metrics_exporter="otlp_file",
        logs_exporter="otlp_file",
        traces_exporter="otlp_file",
        **more,
    )


@pytest.mark.parametrize("inline", [True, False])
def test_all_signals_go_to_one_file(tmp_path: Path, *, inline: bool) -> None:
    """Every request is a line of the file, in order, and all of them are whole."""
    b = bench(exchange_logs="all", exchange_spans="all")
    ledger = Ledger()
    b.telemetry._workers = make_workers(settings(tmp_path / "out.jsonl"), ledger, inline=inline)
    for index in range(3000):
        b.telemetry.exchange(exchange(sequence=index))
    b.telemetry.shutdown()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {next(iter(line)) for line in lines} == {"resourceLogs", "resourceSpans", "resourceMetrics"}
    records = [
        record
        for line in lines
        for rows in line.get("resourceLogs", ())
        for scope in rows["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert len(records) == len({record["spanId"] for record in records}) == 3000
    assert ledger.total("log", "exported") == ledger.total("span", "exported") == 3000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs over the same exchanges write the same file, byte for byte."""
    for name in "ab":
        b = bench(exchange_logs="all", exchange_spans="all", metric_interval_s=1.0)
        b.telemetry._workers = make_workers(settings(tmp_path / name), b.ledger, inline=True)
        for index in range(500):
            b.count(b"GET /%d HTTP/1.1" % (index % 7))
            b.telemetry.detail(exchange(sequence=index))
            b.advance(10**7)
        b.telemetry.shutdown()
    first, second = ((tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert first.count(b"\n") > 10


def test_a_file_that_cannot_be_opened_is_a_setting_error(tmp_path: Path) -> None:
    """The sentence names the setting and the reason."""
    with pytest.raises(SettingError, match=r"^OTEL_EBPF_OTLP_FILE='.*/no/out' cannot be written: No such file"):
        FileExporter(str(tmp_path / "no" / "out"))


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    """What an earlier run wrote stays."""
    path = tmp_path / "out"
    path.write_text("earlier\n")
    exporter = FileExporter(str(path))
    assert exporter.export(request()).error is None
    exporter.close()
    assert path.read_bytes() == b"earlier\n{}\n"


def request() -> Request:
    """Return an empty request, a line of three bytes."""
    return Request("logs", 1, 1, lambda: b"")


@contextmanager
def _small_files() -> Iterator[None]:
    """No file may grow beyond 10 bytes: writing more fails as on a full disk; pytest's own output, too, so be quick."""
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """When no more can be written the export fails, and no half line stays behind."""
    exporter = FileExporter(str(tmp_path / "out"))
    with _small_files():
        results = [exporter.export(request()).error for _ in range(4)]
    exporter.close()
    assert results == [None, None, None, "File too large"]
    assert (tmp_path / "out").read_bytes() == b"{}\n" * 3


def test_a_full_device_is_a_counted_loss() -> None:
    """A device without room fails the export with the system's own words."""
    exporter = FileExporter("/dev/full")
    assert exporter.export(request()).error == "No space left on device"
    exporter.close()


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """A dash is standard output, which stays open."""
    exporter = FileExporter("-")
    exporter.export(request())
    exporter.close()
    assert capfd.readouterr().out == "{}\n"
    os.fstat(1)
