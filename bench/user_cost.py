"""What an exchange costs in user space: ring bytes in, OTLP bytes out, all real in between but the kernel and the wire.

In: ring bytes made up beforehand. Out: processor time of the thread that works them off, per exchange.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.figures import Measurement
from bench.ring import Exchanges
from otel_ebpf.clock import FixedClock
from otel_ebpf.config import Settings
from otel_ebpf.enrich.enricher import Enricher
from otel_ebpf.enrich.facts import ContainerFacts, HostFacts, ProcessFacts
from otel_ebpf.enrich.workload import Workload
from otel_ebpf.flows.intake import Intake
from otel_ebpf.flows.table import FlowTable
from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS, Request
from otel_ebpf.telemetry.ledger import AGGREGATED, Ledger
from otel_ebpf.telemetry.telemetry import Telemetry
from otel_ebpf.telemetry.worker import InlineWorker, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH: Final = 1000  # what gathers in 100 ms at 10,000 exchanges a second
_STEP_NS: Final = 100_000_000
_START_NS: Final = 3600 * 1_000_000_000
_ROUNDS: Final = 5
_PATHS: Final = 100
_NEW_PATHS: Final = 1_000_000  # more than a run has exchanges
_METRICS_ONLY: Final = {"OTEL_EBPF_EXCHANGE_LOGS": "off", "OTEL_EBPF_EXCHANGE_SPANS": "off"}
_DETAILS: Final = {"OTEL_EBPF_EXCHANGE_LOGS": "all", "OTEL_EBPF_EXCHANGE_SPANS": "all"}


@dataclass(frozen=True, slots=True)
class _Mode:
    """One way to measure."""

    name: str
    environment: dict[str, str]
    paths: int


_MODES: Final = (
    _Mode("user.metrics", _METRICS_ONLY, _PATHS),
    _Mode("user.details", _DETAILS, _PATHS),
    _Mode("user.metrics.new", _METRICS_ONLY, _NEW_PATHS),
    _Mode("user.details.new", _DETAILS, _NEW_PATHS),
)


def measure(say: Callable[[str], None], *, batches: int) -> Iterator[Measurement]:
    """Measure metrics alone, and metrics with a log record and a span of each exchange."""
    for mode in _MODES:
        say(f"{mode.name}: {_ROUNDS} x {batches * _BATCH:,} exchanges")
        best_ns = min(_round(mode, batches) for _ in range(_ROUNDS))
        yield Measurement(mode.name, best_ns / 1000)


def _round(mode: _Mode, batches: int) -> float:
    """Nanoseconds per exchange over so many batches, exports at their intervals included."""
    stages = Stages.of({**mode.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    made = Exchanges(connections=64, paths=mode.paths)
    stages.step(made.span(_BATCH, _START_NS), _START_NS)  # what is known is known from here on
    spent_ns = 0
    for number in range(1, batches + 1):
        now_ns = _START_NS + number * _STEP_NS
        span = made.span(_BATCH, now_ns)
        began_ns = time.thread_time_ns()
        stages.step(span, now_ns)
        spent_ns += time.thread_time_ns() - began_ns
    stages.check((batches + 1) * _BATCH)
    return spent_ns / (batches * _BATCH)


class _Discard:
    """An exporter that takes everything: what the wire costs is not ours to measure."""

    def export(self, _: Request) -> Result:
        return Result()

    def close(self) -> None:
        return


class _Facts:
    """A machine with one server."""

    def host(self) -> HostFacts:
        return HostFacts("bench")

    def process(self, _: int, comm: bytes) -> ProcessFacts:
        return ProcessFacts(comm.rstrip(b"\0").decode(), "/usr/sbin/nginx")

    def container(self, _: int, __: int) -> ContainerFacts | None:
        return None

    def addresses(self, _: int) -> tuple[bytes, ...]:
        return ()


@dataclass(slots=True)
class Stages:
    """The stages that an exchange goes through, as the agent puts them together."""

    clock: FixedClock
    ledger: Ledger
    intake: Intake
    telemetry: Telemetry[Workload]

    @classmethod
    def of(cls, environment: dict[str, str]) -> Stages:
        """Put them together."""
        settings, clock, ledger = Settings.from_environment(environment), FixedClock(_START_NS), Ledger()
        enricher = Enricher(settings, _Facts())
        worker = InlineWorker("bench", _Discard(), ledger)
        telemetry = Telemetry(
            settings=settings,
            clock=clock,
            enricher=enricher,
            ledger=ledger,
            workers=dict.fromkeys((METRICS, LOGS, SPANS), worker),
            resource=enricher.agent,
            version="0",
            salt=bytes(16),
        )
        return cls(clock, ledger, Intake(telemetry, FlowTable(telemetry, ledger), ledger), telemetry)

    def step(self, span: bytes, now_ns: int) -> None:
        """What the loop does with a batch."""
        self.clock.now_ns = now_ns
        self.intake.take(span, now_ns)
        self.intake.expire(now_ns)
        self.telemetry.tick(now_ns)

    def check(self, exchanges: int) -> None:
        """Raise RuntimeError when not every exchange was counted: a bench of the wrong thing."""
        self.telemetry.shutdown()
        counted = self.ledger.total("exchange", AGGREGATED)
        if counted != exchanges:
            raise RuntimeError(f"of {exchanges} exchanges {counted} were counted")
