"""The real parts do what the tests that use them take for granted."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from tests.support.clients import Connection, Request, once
from tests.support.otlp import Telemetry
from tests.support.servers import Server, nginx, nginx_served, scripted
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.collector import Collector
    from tests.support.network import Namespace


def test_known_workload_is_what_nginx_served(nginx_server: Server) -> None:
    """The thousand known exchanges are exactly those of nginx's own access log."""
    sent = KnownWorkload().run(nginx_server.host, nginx_server.port)
    time.sleep(0.2)
    assert sum(sent.values()) == 1000
    assert nginx_served(nginx_server) == sent


def test_known_workload_across_namespaces(namespaces: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """The workload runs in one namespace against a server in another."""
    here, there = namespaces
    workload = KnownWorkload(requests=50)
    with nginx(tmp_path, namespace=here) as server:
        sent = workload.run_apart(server.host, server.port, there)
        time.sleep(0.2)
        assert nginx_served(server) == sent == workload.expected()


def test_node_writes_in_every_habit(node_server: Server) -> None:
    """Node answers each habit with its status and body size on one connection, 103 and 100 included."""
    habits = dict.fromkeys((b"/one", b"/split", b"/chunked", b"/trailers", b"/hints"), 600) | {b"/slow": 2, b"/fail": 4}
    with Connection(node_server.host, node_server.port) as connection:
        sizes = {habit: len(connection.exchange(Request(b"GET", habit)).body) for habit in habits}
        assert connection.expecting(Request(b"POST", b"/echo", (), b"z" * 5000)).body == b"5000"
        assert connection.chunked(Request(b"POST", b"/echo"), [b"a" * 10, b"b" * 100]).body == b"110"
    assert sizes == habits


def test_python_server_closes_to_end_a_body(python_http_server: Server) -> None:
    """A response without length ends with its connection."""
    assert len(once(python_http_server.host, python_http_server.port, Request(b"GET", b"/close")).body) == 700


def test_scripted_server_follows_its_script(tmp_path: Path) -> None:
    """A scripted answer arrives as written, byte by byte."""
    steps: list[list[Any]] = [
        ["head"],
        ["dribble", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 0.001],
        ["drain"],
    ]
    with scripted(tmp_path, steps) as server:
        assert once(server.host, server.port, Request(b"GET", b"/")).body == b"ab"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_collector_writes_what_it_gets(collector: Collector, protocol: str) -> None:
    """A log record sent by either protocol is in the file, with its attribute and its body."""
    exporter = (
        GrpcLogs(endpoint=collector.grpc_endpoint, insecure=True)
        if protocol == "grpc"
        else HttpLogs(endpoint=f"{collector.http_endpoint}/v1/logs")
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(body="hello", attributes={"answer": 42})
    provider.shutdown()
    collector.stop()
    (log,) = collector.telemetry().logs
    assert (log.body, log.attributes, log.scope) == ("hello", {"answer": 42}, "test")


def _histogram(*, temporality: int, count: int, route: str) -> str:
    point = {
        "attributes": [{"key": "http.route", "value": {"stringValue": route}}],
        "startTimeUnixNano": "1",
        "timeUnixNano": "2",
        "count": str(count),
        "sum": count / 2,
    }
    metric = {
        "name": "http.server.request.duration",
        "histogram": {"aggregationTemporality": temporality, "dataPoints": [point]},
    }
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})


@pytest.mark.parametrize(("temporality", "total"), [(1, 7), (2, 5)])
def test_series_are_totalled_by_temporality(temporality: int, total: int) -> None:
    """Delta points add up; of cumulative points the last one counts."""
    lines = [
        _histogram(temporality=temporality, count=2, route="/a"),
        _histogram(temporality=temporality, count=5, route="/a"),
        _histogram(temporality=temporality, count=1, route="/b"),
    ]
    telemetry = Telemetry.of_lines(lines)
    assert telemetry.count("http.server.request.duration", http__route="/a") == total
    assert telemetry.count("http.server.request.duration") == total + 1
