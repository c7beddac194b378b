"""The agent and a real OpenTelemetry Collector: what is sent arrives; what cannot arrive is accounted for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_ebpf import __name__ as scope_name
from tests.support.agent import EVERYTHING, agent_command, running_agent
from tests.support.clients import h2load
from tests.support.otlp import Telemetry
from tests.support.servers import nginx
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.collector import Collector
    from tests.support.servers import Server

KNOWN: Final = Path(__file__).parents[1] / "data" / "known.rec"
REQUESTS: Final = 200
PROTOCOLS: Final = ("grpc", "http/protobuf")
MOST_BYTES: Final = (
    160 << 20
)  # 80 MB are the target at ordinary load; queues hold 32 MB at most, and gRPC brings its own
OWN: Final = ("otel_ebpf.", "process.")


def to_collector(collector: Collector, protocol: str) -> dict[str, str]:
    """Settings that send everything there; it is given up after two seconds."""
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    return {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }


def account_in_file(collector: Collector, protocol: str) -> dict[str, str]:
    """The same, but metrics, and with them the ledger, go to the agent's file."""
    return to_collector(collector, protocol) | {"OTEL_METRICS_EXPORTER": "otlp_file"}


def account(told: Telemetry, stage: str) -> Counter[str]:
    """The ledger's outcomes of a stage, over all reasons."""
    found: Counter[str] = Counter()
    for (_, attributes, _), (number, _) in told.series("otel_ebpf.records", stage=stage).items():
        found[dict(attributes)["outcome"].strip("'")] += round(number)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Nginx, without an access log."""
    with nginx(tmp_path / "nginx", log=False) as running:
        yield running


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_arrives_is_what_was_sent(collector: Collector, tmp_path: Path, protocol: str) -> None:
    """A replay into the Collector and a replay into a file tell the same log records, spans and points."""
    for settings in (to_collector(collector, protocol), {"OTEL_EBPF_OTLP_FILE": str(tmp_path / "out.jsonl")}):
        environment = {**os.environ, **EVERYTHING, **settings}
        subprocess.run([*agent_command(), "replay", KNOWN], env=environment, check=True, timeout=60)
    collector.stop()
    arrived, sent = collector.telemetry(), Telemetry.of_file(tmp_path / "out.jsonl")
    assert len(sent.logs) == len(sent.spans) > 0
    assert arrived.logs == sent.logs
    assert arrived.spans == sent.spans
    assert _workloads(arrived) == _workloads(sent)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_live_exchanges_arrive(collector: Collector, server: Server, tmp_path: Path, protocol: str) -> None:
    """Records, spans and metrics of a known workload arrive, each under the Resource of its workload."""
    workload = KnownWorkload(REQUESTS)
    with running_agent(tmp_path / "agent", to_collector(collector, protocol)) as agent:
        exchanged = workload.run_apart(server.host, server.port)
        agent.finished()
    collector.stop()
    arrived = collector.telemetry()
    python = Path(sys.executable).resolve().name
    for role, name, kind in (("server", "nginx", 2), ("client", python, 3)):
        mine = {"server__port": server.port, "service__name": name}
        assert arrived.exchange_counts(role, **mine) == exchanged
        assert arrived.count(f"http.{role}.request.duration", **mine) == REQUESTS
        assert (
            sum((span.kind, span.attributes.get("server.port")) == (kind, server.port) for span in arrived.spans)
            == REQUESTS
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_way_to_the_collector_is_not_watched(
    collector: Collector, server: Server, tmp_path: Path, protocol: str
) -> None:
    """Neither the agent nor the Collector it sends to tells of their own connection: that would never end."""
    with running_agent(tmp_path / "agent", to_collector(collector, protocol)) as agent:
        for _ in range(3):
            h2load(f"{server.url}/api/x", requests=10, connections=1)
            time.sleep(1.2)
        agent.finished()
    collector.stop()
    arrived = collector.telemetry()
    ports = {collector.grpc_port, collector.http_port}
    assert len(arrived.exchanges("server", server__port=server.port)) == 30
    assert [row for row in (*arrived.logs, *arrived.spans) if row.attributes.get("server.port") in ports] == []
    assert [point.metric for point in arrived.points if point.attributes.get("server.port") in ports] == []


def test_every_request_says_what_it_is(collector: Collector) -> None:
    """Each scope has the agent's name, its version and the schema's address; each Resource names service and host."""
    environment = {**os.environ, **EVERYTHING, **to_collector(collector, "grpc")}
    subprocess.run([*agent_command(), "replay", KNOWN], env=environment, check=True, timeout=60)
    version = subprocess.run(
        [*agent_command(), "--version"], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    collector.stop()
    said = list(_scopes(collector))
    assert {signal for signal, *_ in said} == {"resourceLogs", "resourceSpans", "resourceMetrics"}
    assert {(scope["name"], scope["version"]) for _, _, scope, _ in said} == {(scope_name, version)}
    (schema,) = {url for *_, url in said}
    assert schema.startswith("https://opentelemetry.io/schemas/1.")
    wanted = {"service.name", "service.instance.id", "host.name"}
    assert all(wanted <= resource.keys() for _, resource, *_ in said)
    assert {resource["service.name"] for _, resource, *_ in said} == {"nginx", "python3.11", "otel-ebpf"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_absent_collector_costs_records_not_memory(
    collector: Collector, server: Server, tmp_path: Path, protocol: str
) -> None:
    """With nobody listening every record is counted as dropped, the agent stays small and ends in time."""
    collector.stop()
    with running_agent(tmp_path / "agent", account_in_file(collector, protocol)) as agent:
        h2load(f"{server.url}/api/x", requests=5000, connections=2)
        peak = agent.resident_peak_bytes()
        began = time.monotonic()
        told = agent.finished()
        took_s = time.monotonic() - began
    assert peak < MOST_BYTES
    assert took_s < 20
    for stage in ("log", "span"):
        outcomes = account(told, stage)
        assert outcomes["seen"] >= 10_000
        assert outcomes == {"seen": outcomes["seen"], "dropped": outcomes["seen"]}


def test_a_collector_that_dies_and_comes_back(collector: Collector, server: Server, tmp_path: Path) -> None:
    """What arrived before and after is what the ledger calls exported; the rest it calls dropped."""
    url = f"{server.url}/api/x"
    with running_agent(tmp_path / "agent", account_in_file(collector, "grpc")) as agent:
        h2load(url, requests=500, connections=1)
        _wait_for(lambda: len(collector.telemetry().exchanges("server", server__port=server.port)) == 500)
        _settled(collector)
        collector.kill()
        h2load(url, requests=500, connections=1)
        time.sleep(4)  # longer than an export is tried
        collector.start()
        h2load(url, requests=500, connections=1)
        _wait_for(lambda: len(collector.telemetry().exchanges("server", server__port=server.port)) >= 1000)
        told = agent.finished()
    collector.stop()
    arrived = collector.telemetry()
    for stage, rows in (("log", arrived.logs), ("span", arrived.spans)):
        outcomes = account(told, stage)
        assert outcomes["exported"] == len(rows)
        assert outcomes["seen"] == outcomes["exported"] + outcomes["dropped"]
        assert outcomes["seen"] >= 3000
    assert "takes" in agent.child.output()


def test_a_slow_collector_is_waited_for_within_bounds(collector: Collector, server: Server, tmp_path: Path) -> None:
    """A Collector that hangs makes the agent neither stop nor grow; all that was seen has its fate at the end."""
    settings = account_in_file(collector, "http/protobuf") | {"OTEL_EBPF_RING_SIZE": str(1 << 25)}
    with running_agent(tmp_path / "agent", settings) as agent:
        h2load(f"{server.url}/api/x", requests=100, connections=1)
        collector.pause()
        h2load(f"{server.url}/api/x", requests=20_000, connections=4)
        time.sleep(1)
        peak = agent.resident_peak_bytes()
        collector.resume()
        h2load(f"{server.url}/api/x", requests=100, connections=1)
        told = agent.finished()
    collector.stop()
    assert peak < MOST_BYTES
    assert told.count("http.server.request.duration", server__port=server.port) == 20_200
    for stage, rows in (("log", collector.telemetry().logs), ("span", collector.telemetry().spans)):
        outcomes = account(told, stage)
        assert outcomes["seen"] == outcomes["exported"] + outcomes["dropped"]
        assert outcomes["exported"] <= len(rows) <= outcomes["seen"] + _repeats(rows)


def _repeats(rows: list[Any]) -> int:
    """How many rows came twice: a request that was given up may have been taken all the same."""
    return len(rows) - len({(row.trace_id, row.span_id) for row in rows})


def _settled(collector: Collector) -> None:
    """Wait until nothing more arrives: other programs of the machine are watched, too."""
    before = -1
    while before != (now := len(collector.telemetry().spans)):
        before = now
        time.sleep(0.3)


def _wait_for(ready: Any, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "it did not arrive in time"
        time.sleep(0.1)


def _workloads(told: Telemetry) -> list[Any]:
    return [point for point in told.points if not point.metric.startswith(OWN)]


def _scopes(collector: Collector) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """Signal, Resource, scope and schema URL of everything that arrived."""
    for line in (collector._folder / "out.jsonl").read_text(encoding="utf-8").splitlines():
        for signal, resources in json.loads(line).items():
            for one in resources:
                resource = {pair["key"]: pair["value"].get("stringValue") for pair in one["resource"]["attributes"]}
                for inner in one[signal.replace("resource", "scope")]:
                    yield signal, resource, inner["scope"], inner.get("schemaUrl", "")
