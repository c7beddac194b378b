"""The ledger closes, and the agent tells about itself."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_ebpf.telemetry.health import Health, HealthCheck, MapUse, ProbeState, ProgramUse, process_use
from otel_ebpf.telemetry.instruments import TABLE
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.worker import InlineWorker, Result, ThreadWorker
from tests.pure.telemetry.making import MS, Bench, S, attributes, bench, exchange, metrics, points


def test_rows_and_totals() -> None:
    """Totals add up by stage, outcome and reason; adding nothing makes no row."""
    ledger = Ledger()
    ledger.add("log", "dropped", "queue_full", 3)
    ledger.add("log", "dropped", "export_failed")
    ledger.add("log", "seen", n=5)
    ledger.add("log", "exported", n=0)
    ledger.put("kernel", "dropped", "ring_full", 7)
    ledger.put("kernel", "dropped", "ring_full", 9)
    assert ledger.rows() == {
        ("kernel", "dropped", "ring_full"): 9,
        ("log", "dropped", "export_failed"): 1,
        ("log", "dropped", "queue_full"): 3,
        ("log", "seen", ""): 5,
    }
    assert ledger.total("log", "dropped") == 4
    assert ledger.total("log", "dropped", "queue_full") == 3
    assert ledger.open() == {"log": 1}


class Scripted:
    """An exporter that fails on every fifth request and rejects two items of the others."""

    def __init__(self) -> None:
        self.requests = 0

    def export(self, request: Any) -> Result:
        """Answer by turns."""
        del request
        self.requests += 1
        return Result(error="no") if self.requests % 5 == 0 else Result(rejected=2)

    def close(self) -> None:
        """Nothing."""


def run(b: Bench, times: int) -> None:
    """Take exchanges both ways as the intake does, and let the loop turn."""
    for index in range(times):
        if index % 5 == 0:
            b.telemetry.exchange(exchange(sequence=index, status=500 if index % 10 == 0 else 200))
        elif b.count(duration_ns=index * MS):
            b.telemetry.detail(exchange(sequence=index))
        if index % 50 == 0:
            b.advance(S)


def test_ledger_closes_exactly() -> None:
    """After the end everything seen was exported, sampled out or dropped: nothing is missing, nothing is told twice."""
    b = bench(slow_threshold_s=0.9, notable_ratio=10, metric_interval_s=2.0, traces_sampler="always_off")
    b.telemetry._workers = dict.fromkeys(("metrics", "logs", "traces"), InlineWorker("test", Scripted(), b.ledger))
    run(b, 1000)
    b.telemetry.shutdown()
    rows = b.ledger.rows()
    assert b.ledger.open() == {"log": 0, "metric": 0, "span": 0}
    assert rows["exchange", "aggregated", ""] == rows["log", "seen", ""] == rows["span", "seen", ""] == 1000
    assert rows["log", "dropped", "rejected"] > 0
    assert rows["log", "dropped", "export_failed"] > 0
    assert b.ledger.total("span", "exported") == 0
    assert rows["span", "sampled_out", "sampler"] + rows["span", "sampled_out", "policy"] == 1000


def agent(b: Bench) -> dict[str, list[Any]]:
    """Return the agent's own points by metric."""
    return {name: points(metric) for name, metric in b.collect()["otel-ebpf"].items()}


def test_records_are_told_as_metrics() -> None:
    """The ledger is the metric otel_ebpf.records with stage, outcome and reason."""
    b = bench(exchange_logs="off")
    b.count()
    b.telemetry.collect()
    found = {
        tuple(sorted(attributes(point.attributes).values())): point.as_int for point in agent(b)["otel_ebpf.records"]
    }
    assert found["aggregated", "exchange"] == 1
    assert found["log", "off", "sampled_out"] == 1


def test_health_is_told() -> None:
    """Probes, flows, maps, programs, profile and the process are read when metrics are collected."""
    b = bench()
    health = Health(
        probes=lambda: [ProbeState("tcp_connect", "kprobe", "attached", ""), ProbeState("x", "", "failed", "EPERM")],
        flows=lambda: 12,
        maps=lambda: [MapUse("flows", 5, 4096)],
        programs=lambda: [ProgramUse("on_send", 1_500_000_000, 1000)],
        profile=lambda: "default",
        process=lambda: ({"user": 2 * S, "system": S // 2}, 50 << 20),
    )
    b.telemetry._health = HealthCheck(health, b.ledger, b.telemetry._aggregate)
    b.telemetry.looped(3 * MS)
    b.ledger.add("export", "succeeded", "logs", 4)
    found = agent(b)
    assert set(found) <= {row.name for row in TABLE}
    probes = {tuple(sorted(attributes(p.attributes).items())): p.as_int for p in found["otel_ebpf.probes"]}
    assert probes == {
        (("hook", "tcp_connect"), ("kind", "kprobe"), ("state", "attached")): 1,
        (("hook", "x"), ("kind", ""), ("reason", "EPERM"), ("state", "failed")): 1,
    }
    assert found["otel_ebpf.flows"][0].as_int == 12
    assert found["otel_ebpf.map.entries"][0].as_int == 5
    assert found["otel_ebpf.map.capacity"][0].as_int == 4096
    assert attributes(found["otel_ebpf.map.capacity"][0].attributes) == {"map": "flows"}
    assert found["otel_ebpf.program.run.time"][0].as_double == 1.5
    assert found["otel_ebpf.program.runs"][0].as_int == 1000
    assert attributes(found["otel_ebpf.profile"][0].attributes) == {"profile": "default"}
    assert found["process.memory.usage"][0].as_int == 50 << 20
    assert sorted(p.as_double for p in found["process.cpu.time"]) == [0.5, 2]
    assert (found["otel_ebpf.loop.duration"][0].count, found["otel_ebpf.loop.duration"][0].sum) == (1, 0.003)
    assert attributes(found["otel_ebpf.exports"][0].attributes) == {"signal": "logs", "outcome": "succeeded"}
    gauge = b.collect()["otel-ebpf"]["otel_ebpf.profile"].gauge.data_points[0]
    assert gauge.start_time_unix_nano == 0


def test_process_use_is_this_process() -> None:
    """CPU time and resident memory are those of a running Python."""
    times, resident = process_use()
    assert set(times) == {"user", "system"}
    assert times["user"] > 0
    assert 5 << 20 < resident < 5 << 30


def test_metric_kinds_on_the_wire() -> None:
    """Counters are monotonic sums, updowncounters are not and are never differences, gauges are gauges."""
    b = bench(temporality="delta")
    b.count()
    health = Health(flows=lambda: 1, profile=lambda: "light")
    b.telemetry._health = HealthCheck(health, b.ledger, b.telemetry._aggregate)
    found = b.collect()
    own = found["otel-ebpf"]
    assert (own["otel_ebpf.records"].sum.is_monotonic, own["otel_ebpf.records"].sum.aggregation_temporality) == (
        True,
        1,
    )
    assert (own["otel_ebpf.flows"].sum.is_monotonic, own["otel_ebpf.flows"].sum.aggregation_temporality) == (False, 2)
    assert own["otel_ebpf.profile"].WhichOneof("data") == "gauge"
    assert found["nginx"]["http.server.request.duration"].histogram.aggregation_temporality == 1
    assert found["nginx"]["http.server.request.duration"].unit == "s"


def test_metrics_are_sent_at_their_interval() -> None:
    """Metrics go out once per interval, counted from the start, however the loop turns."""
    b = bench(metric_interval_s=10)
    b.count()
    sent = []
    for _ in range(35):
        b.advance(S)
        sent.append(len(b.kept.messages("metrics")))
    assert [second for second in range(1, 35) if sent[second] > sent[second - 1]] == [9, 19, 29]
    b.advance(100 * S)
    assert len(b.kept.messages("metrics")) == 4


def test_records_do_not_wait_longer_than_a_second() -> None:
    """A log record is on its way a second after it was made, without others to join it."""
    b = bench(exchange_logs="all")
    b.telemetry.exchange(exchange())
    b.advance(S - 1)
    assert b.kept.requests == []
    b.advance(1)
    assert len(b.kept.logs()) == 1


def test_requests_are_bounded() -> None:
    """However many records one turn of the loop makes, no request is much larger than a megabyte."""
    b = bench(exchange_logs="all", exchange_spans="all")
    for index in range(5000):
        b.telemetry.exchange(exchange(sequence=index))
    b.telemetry.shutdown()
    sizes = [len(request.payload()) for request in b.kept.requests if request.signal != "metrics"]
    assert len(sizes) > 4
    assert max(sizes) < (1 << 20) + 16384
    assert len(b.kept.logs()) == len(b.kept.spans()) == 5000


def test_shutdown_closes_each_worker_once() -> None:
    """Signals that share a worker close it once."""
    b = bench()
    b.telemetry.shutdown()
    assert b.kept.closed == 1


def test_the_last_metrics_tell_the_whole_ledger() -> None:
    """At the end the metrics go last, and say what became of every log record and span before them."""
    b = bench(exchange_logs="all", exchange_spans="all")
    last_metrics: list[Any] = []

    class Keeps(Scripted):
        def export(self, request: Any) -> Result:
            if request.signal == "metrics":
                last_metrics.append(request.payload())
            return Result()

    b.telemetry._workers = dict.fromkeys(("metrics", "logs", "traces"), ThreadWorker("test", Keeps(), b.ledger))
    run(b, 100)
    b.telemetry.shutdown()
    found = metrics(ExportMetricsServiceRequest.FromString(last_metrics[-1]))["otel-ebpf"]["otel_ebpf.records"]
    told = {tuple(sorted(attributes(point.attributes).items())): point.as_int for point in points(found)}
    for stage in ("log", "span"):
        assert told[("outcome", "seen"), ("stage", stage)] == told[("outcome", "exported"), ("stage", stage)] == 100


def test_metrics_requests_are_bounded() -> None:
    """Many points go out as several requests that a receiver takes; no point is lost or doubled."""
    b = bench(cardinality_limit=2000)
    for index in range(1999):
        b.count(b"GET /a-route-with-a-rather-long-name-%d HTTP/1.1" % index)
    b.telemetry.collect()
    sizes = [len(request.payload()) for request in b.kept.requests]
    assert len(sizes) == 7
    assert max(sizes) < 2 << 20
    routes = [
        (metric.name, attributes(point.attributes).get("http.route"))
        for message in b.kept.messages("metrics")
        for resource in message.resource_metrics
        if attributes(resource.resource.attributes)["service.name"] == "nginx"
        for metric in resource.scope_metrics[0].metrics
        for point in metric.histogram.data_points
    ]
    assert len(routes) == len(set(routes)) == 1999 * 6
