"""The whole agent beside a known workload: everything that it tells is compared with what was exchanged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.agent import running_agent
from tests.support.servers import nginx, nginx_served
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clients import Exchange
    from tests.support.otlp import Log, Span, Telemetry

ROLES: Final = ("client", "server")
SPAN_KINDS: Final = {"server": 2, "client": 3}
ROUTES: Final = {"server": "http.route", "client": "url.template"}
# Two runs: each source of payload that this kernel allows, and each temporality.
RUNS: Final = {
    "tp_btf-cumulative": {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative"},
    "syscall-delta": {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_EBPF_PROBES_OFF": "payload.tp_btf",
    },
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was exchanged, and what the agent told of it."""

    name: str
    port: int
    connections: int
    exchanged: Counter[Exchange]
    told: Telemetry
    output: str

    def logs(self, role: str) -> list[Log]:
        """Exchange records of one end of the workload."""
        return self.told.exchanges(role, server__port=self.port)

    def spans(self, role: str) -> list[Span]:
        """Spans of one end of the workload."""
        wanted = SPAN_KINDS[role], self.port
        return [span for span in self.told.spans if (span.kind, span.attributes.get("server.port")) == wanted]

    def total(self, metric: str, **attributes: Any) -> float:
        """The sum of a metric over the series of the workload that have the attributes."""
        return self.told.total(metric, server__port=self.port, **attributes)

    def ledger(self) -> dict[str, Counter[str]]:
        """By stage: its outcomes, over all reasons."""
        stages: dict[str, Counter[str]] = {}
        for (_, attributes, _), (number, _) in self.told.series("otel_ebpf.records").items():
            row = dict(attributes)
            stages.setdefault(row["stage"].strip("'"), Counter())[row["outcome"].strip("'")] += round(number)
        return stages


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A thousand requests over keep-alive, single and pipelined connections, while the agent watches."""
    folder = tmp_path_factory.mktemp("known")
    workload = KnownWorkload()
    with nginx(folder / "nginx") as server, running_agent(folder / "agent", RUNS[request.param]) as agent:
        exchanged = workload.run_apart(server.host, server.port)
        told = agent.finished()
        assert nginx_served(server) == exchanged
        return Run(request.param, server.port, workload.connections(), exchanged, told, agent.child.output())


def test_the_run_is_the_wanted_one(run: Run) -> None:
    """Payload comes from the source that this run is about, and metrics have its temporality."""
    source, temporality = run.name.split("-")
    assert f"payload={source}" in run.output
    assert {point.delta for point in run.told.points if point.kind == "histogram"} == {temporality == "delta"}


@pytest.mark.parametrize("role", ROLES)
def test_every_exchange_is_a_log_record(run: Run, role: str) -> None:
    """There are exactly the thousand exchanges, with their methods, paths, statuses and body sizes."""
    assert run.told.exchange_counts(role, server__port=run.port) == run.exchanged
    assert all(log.attributes["ebpf.exchange.complete"] for log in run.logs(role))


@pytest.mark.parametrize("role", ROLES)
def test_every_exchange_is_a_span(run: Run, role: str) -> None:
    """Spans are the same exchanges as log records, one to one, and joined to them by their ids."""
    logs, spans = run.logs(role), run.spans(role)
    assert len(spans) == run.exchanged.total()
    assert Counter(map(_fact, spans)) == Counter(map(_fact, logs))
    assert {(span.trace_id, span.span_id) for span in spans} == {(log.trace_id, log.span_id) for log in logs}
    assert len({span.span_id for span in spans}) == len(spans)


@pytest.mark.parametrize("role", ROLES)
def test_durations_are_counted_by_method_status_and_route(run: Run, role: str) -> None:
    """The duration histogram has as many measurements per method, status and route as there are records."""
    keys = ("http.request.method", "http.response.status_code", ROUTES[role], "error.type")
    counted: Counter[tuple[Any, ...]] = Counter()
    for (_, attributes, _), (_, count) in run.told.series(
        f"http.{role}.request.duration", server__port=run.port
    ).items():
        counted[tuple(dict(attributes).get(key) for key in keys)] += count
    assert counted == Counter(tuple(_told(log, key) for key in keys) for log in run.logs(role))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("direction", ["request", "response"])
def test_body_sizes_add_up(run: Run, role: str, direction: str) -> None:
    """The body size histograms hold exactly the bytes that were exchanged."""
    size = {"request": "request_body_bytes", "response": "response_body_bytes"}[direction]
    expected = sum(getattr(exchange, size) * number for exchange, number in run.exchanged.items())
    assert run.total(f"http.{role}.{direction}.body.size") == expected


@pytest.mark.parametrize("role", ROLES)
def test_connections_are_counted(run: Run, role: str) -> None:
    """Each connection was counted, measured, and is closed again."""
    assert run.total("ebpf.tcp.connections", ebpf__role=role) == run.connections
    assert run.told.count("ebpf.tcp.connection.duration", ebpf__role=role, server__port=run.port) == run.connections
    assert run.told.count("ebpf.tcp.handshake.duration", ebpf__role=role, server__port=run.port) == run.connections
    assert run.total("ebpf.tcp.connections.active", ebpf__role=role) == 0


@pytest.mark.parametrize(
    ("role", "sent", "received"), [("client", "request", "response"), ("server", "response", "request")]
)
def test_network_bytes_are_heads_and_bodies(run: Run, role: str, sent: str, received: str) -> None:
    """Nothing is chunked here: the bytes of the connections are those of all heads and bodies, no more and no less."""
    for direction, part in (("transmit", sent), ("receive", received)):
        told = run.total("ebpf.network.io", ebpf__role=role, network__io__direction=direction)
        assert told == sum(_message_bytes(log, part) for log in run.logs(role))


def test_the_ledger_closes(run: Run) -> None:
    """At every stage what was seen is what was passed on, counted, told, sampled out and dropped together."""
    for stage, outcomes in run.ledger().items():
        seen = outcomes.pop("seen", 0)
        if seen:
            assert (stage, seen) == (stage, outcomes.total())


def test_nothing_is_lost(run: Run) -> None:
    """The ring refused nothing, and no exchange of the machine was dropped."""
    ledger = run.ledger()
    assert [ledger[f"kernel.{kind}"]["dropped"] for kind in ("turn", "flow", "segment")] == [0, 0, 0]
    assert ledger["log"]["exported"] == ledger["span"]["exported"] == ledger["exchange"]["aggregated"]
    assert ledger["exchange"]["aggregated"] >= 2 * run.exchanged.total()


def test_a_run_ends_by_itself(tmp_path: Path) -> None:
    """With a duration the agent ends after it, in good order and with everything written."""
    with (
        nginx(tmp_path / "nginx") as server,
        running_agent(tmp_path / "agent", arguments=("--duration", "1.5")) as agent,
    ):
        exchanged = KnownWorkload(20).run_apart(server.host, server.port)
        assert agent.child.wait(10) == 0
        assert agent.telemetry().exchange_counts("server", server__port=server.port) == exchanged


def _fact(row: Log | Span) -> tuple[Any, ...]:
    keys = ("http.request.method", "url.path", "http.response.status_code", "http.response.body.size")
    return tuple(row.attributes.get(key) for key in keys)


def _told(log: Log, key: str) -> str | None:
    """An attribute as ``Telemetry.series`` has it in its keys."""
    value = log.attributes.get(key)
    return None if value is None else repr(value)


def _message_bytes(log: Log, part: str) -> int:
    header: int = log.attributes[f"ebpf.http.{part}.header.size"]
    body: int = log.attributes[f"http.{part}.body.size"]
    return header + body
