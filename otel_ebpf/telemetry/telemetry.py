"""Telemetry: where exchanges and flows end, and metrics, logs and spans begin.

In: what ``flows/`` found out. Out: export requests to the workers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final, Generic

from otel_ebpf.clock import Clock
from otel_ebpf.config import Settings
from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.records import FlowRecord
from otel_ebpf.telemetry import encode_metrics
from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry import ledger as fate
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS, Request
from otel_ebpf.telemetry.connections import ConnectionCounter, FlowDelta
from otel_ebpf.telemetry.details import Details
from otel_ebpf.telemetry.edges import Edges, EnricherLike, W
from otel_ebpf.telemetry.exchanges import ExchangeCounter
from otel_ebpf.telemetry.health import Health, HealthCheck
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.policy import Policy
from otel_ebpf.telemetry.series import Instant, Resource, WorkloadLike
from otel_ebpf.telemetry.shape import Shapes
from otel_ebpf.telemetry.trace import Tracer, make_sampler
from otel_ebpf.telemetry.worker import Worker

SHUTDOWN_S: Final = 5.0
"""What exporters get for the rest when the agent ends: less than the 30 s that Kubernetes grants."""


def _no_flows() -> Mapping[bytes, int]:
    return {}


class Telemetry(Generic[W]):
    """Takes exchanges and flows (``ExchangeSink`` and ``FlowSink``), and tells them.

    All but the workers runs on the thread of the loop.

    Args:
        settings: The settings.
        clock: Turns ns since boot into Unix time.
        enricher: Says who everybody is.
        ledger: The account of everything.
        workers: By signal (``metrics``, ``logs``, ``traces``); a signal that is not there is not made.
        resource: The agent's own Resource.
        version: The agent's version, the version of the scope.
        salt: 16 bytes that differ per start of the agent; a recording keeps them.
        active: Open flows per edge.
        health: Whom to ask about the agent; None: nothing of it is told but the ledger.
    """

    def __init__(  # noqa: PLR0913 - the composition's one meeting point
        self, *, settings: Settings, clock: Clock, enricher: EnricherLike[W], ledger: Ledger,
        workers: Mapping[str, Worker], resource: WorkloadLike, version: str, salt: bytes,
        active: Callable[[], Mapping[bytes, int]] = _no_flows, health: Health | None = None,
    ) -> None:  # fmt: skip
        now_ns = clock.monotonic_ns()
        self._clock = clock
        self._ledger = ledger
        self._workers = dict(workers)
        self._version = version
        self._active = active
        self._interval_ns = round(settings.metric_interval_s * 1e9)
        self._next_ns = now_ns + self._interval_ns
        self._most_points = encode_metrics.MOST_POINTS if settings.metrics_exporter == "otlp" else sys.maxsize
        self._ttl_ns = round(settings.metrics_ttl_s * 1e9)
        self._aged_ns = now_ns
        self._settled = self._unwatched = 0
        self._aggregate = _aggregate(settings, Resource(resource), self._ttl_ns)
        self._edges = Edges(enricher, self._aggregate)
        policy = _policy(settings, self._workers)
        now = self._instant(now_ns)
        self._exchanges = ExchangeCounter(self._aggregate, self._edges, policy, now)
        self._connections = ConnectionCounter(self._aggregate, self._edges, now)
        self._shapes = Shapes(self._edges, self._exchanges, exclude_instrumented=settings.exclude_instrumented)
        self._details = Details(
            policy=policy,
            shapes=self._shapes,
            tracer=Tracer(salt, make_sampler(settings.traces_sampler, settings.traces_sampler_arg)),
            ledger=ledger,
            version=version,
            slow_ns=round(settings.slow_threshold_s * 1e9),
            send=self._send,
        )
        self._health = HealthCheck(health or Health(), ledger, self._aggregate)
        self.count = self._exchanges.count
        """``ExchangeSink.count``, without a call in between."""
        self.detail = self._details.add
        """``ExchangeSink.detail``."""
        self._at(now_ns)

    def exchange(self, exchange: Exchange) -> None:
        """Take an exchange that is not ordinary: count it, and tell it if it deserves that."""
        if self._exchanges.exchange(exchange):
            self._details.add(exchange)

    def opened(self, flow: FlowRecord) -> None:
        """Take a connection that was established, or that is older than the agent."""
        self._connections.opened(flow)

    def failed(self, flow: FlowRecord, error_type: str) -> None:
        """Take a connection that was never established."""
        self._connections.failed(flow, error_type)

    def traffic(self, flow: FlowRecord, delta: FlowDelta) -> None:
        """Take what a flow did since the last look."""
        self._connections.traffic(flow, delta)

    def closed(self, flow: FlowRecord, duration_ns: int) -> None:
        """Take the end of a connection."""
        self._connections.closed(flow, duration_ns)

    def looped(self, duration_ns: int) -> None:
        """Take how long one turn of the loop worked."""
        aggregate = self._aggregate
        aggregate.histogram(table.LOOP_DURATION, aggregate.own, (), self._exchanges.now).histogram.add(duration_ns)

    def tick(self, now_ns: int) -> None:
        """Send what is due: logs and spans that have waited, metrics when their interval is over. Called every turn."""
        self._at(now_ns)
        self._details.flush_due()
        if now_ns >= self._next_ns:
            self._next_ns += self._interval_ns * ((now_ns - self._next_ns) // self._interval_ns + 1)
            self.collect()

    def _at(self, now_ns: int) -> None:
        now = self._exchanges.now = self._connections.now = self._instant(now_ns)
        self._details.now_ns, self._details.offset_ns = now_ns, now.unix_ns - now_ns

    def _instant(self, now_ns: int) -> Instant:
        return Instant(now_ns, self._clock.wall_ns(now_ns))

    def collect(self) -> None:
        """Send all metrics now, and ask the enrichment anew from here on."""
        now = self._exchanges.now
        self.settle()
        if METRICS in self._workers:
            self._connections.observe_active(self._active())
            self._health.observe(now)
        snapshot = self._aggregate.collect(now)
        for part in (self._exchanges, self._connections, self._shapes, self._edges):
            part.refresh()
        if now.monotonic_ns - self._aged_ns >= self._ttl_ns:
            self._aged_ns = now.monotonic_ns
            self._edges.enricher.age()
        if METRICS in self._workers:
            for request in encode_metrics.requests(snapshot, self._version, most_points=self._most_points):
                self._send(request)

    def settle(self) -> None:
        """Bring the ledger up to date with what was counted on the hot path; ``flows/`` writes down what it saw."""
        seen, unwatched = self._exchanges.seen, self._exchanges.unwatched
        new, new_unwatched = seen - self._settled, unwatched - self._unwatched
        self._settled, self._unwatched = seen, unwatched
        self._ledger.add("exchange", fate.AGGREGATED, n=new - new_unwatched)
        self._ledger.add("exchange", fate.SAMPLED_OUT, "not_selected", new_unwatched)
        self._details.settle(seen - unwatched)

    def _send(self, request: Request) -> None:
        self._workers[request.signal].submit(request)

    def shutdown(self, timeout_s: float = SHUTDOWN_S) -> None:
        """Send everything that is left and close the exporters; after this the ledger closes exactly."""
        self._at(self._clock.monotonic_ns())
        self._details.flush()
        workers = dict.fromkeys(self._workers.values())
        metrics = self._workers.get(METRICS)
        for worker in workers:
            if worker is not metrics:
                worker.close(timeout_s)
        if metrics is None:
            self.settle()
            return
        metrics.drain(timeout_s / 2)  # so that the ledger, which is sent with the metrics, says what became of the rest
        self.collect()
        metrics.close(timeout_s / 2)


def _aggregate(settings: Settings, own: Resource, ttl_ns: int) -> Aggregate:
    return Aggregate(own, limit=settings.cardinality_limit, ttl_ns=ttl_ns, temporality=_temporality(settings))


def _temporality(settings: Settings) -> str:
    """A person reads what happened since the last table, so the console gets differences."""
    return "delta" if settings.metrics_exporter == "console" else settings.temporality


def _policy(settings: Settings, workers: Mapping[str, Worker]) -> Policy:
    return Policy(
        logs=settings.exchange_logs if LOGS in workers else "off",
        spans=settings.exchange_spans if SPANS in workers else "off",
        one_in=settings.notable_ratio,
        slow_ns=round(settings.slow_threshold_s * 1e9),
    )
