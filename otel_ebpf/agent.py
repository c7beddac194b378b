"""The composition root: builds every part from the settings and hands it to the next. Nothing else knows all stages."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_ebpf.check import CheckReport, look_around
from otel_ebpf.clock import Clock, FixedClock, StepClock
from otel_ebpf.enrich.enricher import Enricher
from otel_ebpf.enrich.facts import FactLog, FactSource, RecordedFacts
from otel_ebpf.enrich.live import LiveFacts
from otel_ebpf.enrich.process import in_root_pid_namespace
from otel_ebpf.errors import CannotRun, RecordingError
from otel_ebpf.flows.bounds import Bounds
from otel_ebpf.flows.intake import Intake
from otel_ebpf.flows.table import FlowTable
from otel_ebpf.kernel import start
from otel_ebpf.kernel.capture import Capture
from otel_ebpf.kernel.probes import State
from otel_ebpf.kernel_ledger import KernelLedger
from otel_ebpf.node_health import node_health
from otel_ebpf.pipeline import Pipeline
from otel_ebpf.recording import SALT_BYTES, RecordedSource, Recording, RecordingWriter, read
from otel_ebpf.records import Batch, Listener, RecordSource
from otel_ebpf.telemetry.export import make_workers
from otel_ebpf.telemetry.health import Health
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_ebpf.config import Settings
    from otel_ebpf.kernel.handover import Loaded

_PROC: Final = Path("/proc")
_EXPORTER_FIELDS: Final = ("metrics_exporter", "logs_exporter", "traces_exporter")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a pipeline is made of besides the settings."""

    clock: FixedClock
    facts: FactSource
    salt: bytes
    health: Health
    wait: Callable[[float], None]
    detach: Callable[[], None]
    inline: bool


def run(settings: Settings, *, duration_s: float | None) -> int:
    """Watch this machine until a signal comes or *duration_s* is over.

    Raises:
        CannotRun: Nothing can be captured here.
    """
    with ExitStack() as stack:
        _Session(settings, stack).watch(duration_s)
    return 0


def record(settings: Settings, path: Path, *, duration_s: float | None) -> int:
    """Write raw kernel records to *path*. Telemetry is sent as well where an exporter other than the console is set.

    Raises:
        CannotRun: Nothing can be captured here.
        RecordingError: The file cannot be written.
    """
    quiet: dict[str, Any] = {name: "none" for name in _EXPORTER_FIELDS if getattr(settings, name) == "console"}
    try:
        with ExitStack() as stack:  # inside: closing the file writes, too
            file = stack.enter_context(path.open("wb"))
            session = _Session(replace(settings, **quiet), stack)
            facts = FactLog(session.facts)
            writer = RecordingWriter(file, session.header())
            session.watch(duration_s, RecordedSource(session.capture, writer), facts)
            writer.facts(facts.as_json())
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    return 0


def replay(settings: Settings, path: Path) -> int:
    """Give the telemetry of a recording, the same bytes every time.

    Raises:
        RecordingError: The file cannot be read.
    """
    recording, batches = read(path)
    if not recording.facts:
        _log.warning("%s was cut short: workloads are named by what their processes called themselves", path)
    clock = FixedClock(recording.started_ns, recording.offset_ns)
    facts = _recorded_facts(recording, path)
    parts = _Parts(clock, facts, recording.salt, Health(), time.sleep, _nothing, inline=True)
    pipeline, enricher = _assemble(settings, parts, _Nothing())
    _learn(enricher, recording.listeners)
    for batch in batches:
        pipeline.step(batch)
    pipeline.finish()
    return 0


def _recorded_facts(recording: Recording, path: Path) -> RecordedFacts:
    try:
        return RecordedFacts(recording.facts or {"host": {"name": "unknown"}, "processes": [], "containers": []})
    except (LookupError, TypeError, ValueError) as error:
        raise RecordingError(f"{path}: its facts cannot be read; the file is damaged") from error


def check(settings: Settings) -> CheckReport:
    """Load everything once, and say what became of it."""
    try:
        with start.load(settings.ring_bytes, settings.max_flows, settings.probes_off, 0) as loaded:
            return look_around(loaded.report)
    except CannotRun as error:
        return look_around((), str(error))


def _nothing() -> None:
    """What a replay has to detach."""


class _Nothing:
    """The source of a replay: its batches come from the file."""

    def take(self, *, with_flows: bool) -> Batch:
        """Never called."""
        raise NotImplementedError


class _Session:
    """One run on a live kernel. What is opened is closed by the stack, in reverse order."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._clock = Clock()
        self._began_ns = self._clock.monotonic_ns()
        self._salt = os.urandom(SALT_BYTES)
        own = os.getpid() if in_root_pid_namespace(_PROC) else 0
        self._loaded = stack.enter_context(
            start.load(settings.ring_bytes, settings.max_flows, settings.probes_off, own)
        )
        self.capture = Capture(self._loaded, settings.ring_bytes, self._clock)
        stack.callback(self.capture.close)
        self._listeners = self.capture.discover()
        self.facts: FactSource = LiveFacts(self._clock)

    def header(self) -> Recording:
        """Return what a recording of this session begins with."""
        return Recording(self._began_ns, self._clock.offset_ns, self._salt, self._listeners)

    def watch(
        self, duration_s: float | None, source: RecordSource | None = None, facts: FactSource | None = None
    ) -> None:
        """Run the loop until a signal comes or the time is over."""
        settings = self._settings
        # A recording replays with the one offset of its header, so the run that makes it keeps to that, too.
        kind = StepClock if source is None else FixedClock
        clock = kind(self._began_ns, self._clock.offset_ns)
        capture = self.capture
        health = node_health(self._loaded, capture, settings)
        parts = _Parts(clock, facts or self.facts, self._salt, health, capture.wait, self._loaded.detach, inline=False)
        pipeline, enricher = _assemble(settings, parts, source or capture)
        _learn(enricher, self._listeners)
        stop = _stop_on_signals()
        gc.freeze()  # what start-up made lives as long as the agent: the collector need not look at it again
        self._say_ready()
        deadline_ns = None if duration_s is None else self._clock.monotonic_ns() + round(duration_s * 1e9)
        pipeline.run(stop, deadline_ns)

    def _say_ready(self) -> None:
        took_s = (self._clock.monotonic_ns() - self._began_ns) / 1e9
        _log.info("capturing after %.1f s; %s", took_s, _summary(self._loaded))
        for row in self._loaded.report:
            if row.state is not State.ON:
                _log.warning("%s is %s: %s", row.hook, row.state.value, row.lost)


def _summary(loaded: Loaded) -> str:
    on = [f"{row.hook}={row.chosen}" for row in loaded.report if row.state is State.ON]
    return f"{len(on)} of {len(loaded.report)} hooks on ({', '.join(on)})"


def _profiled(settings: Settings) -> Settings:
    """Return the settings as the profile leaves them: light tells no single exchange."""
    if settings.profile != "light":
        return settings
    return replace(settings, exchange_logs="off", exchange_spans="off")


def _assemble(settings: Settings, parts: _Parts, source: RecordSource) -> tuple[Pipeline, Enricher]:
    settings = _profiled(settings)
    ledger = Ledger()
    enricher = Enricher(settings, parts.facts)
    table: FlowTable
    telemetry = Telemetry(
        settings=settings,
        clock=parts.clock,
        enricher=enricher,
        ledger=ledger,
        workers=make_workers(settings, ledger, inline=parts.inline),
        resource=enricher.agent,
        version=version("otel-ebpf"),
        salt=parts.salt,
        active=lambda: table.active(),  # noqa: PLW0108 - table is made below: each needs the other
        health=parts.health,
    )
    bounds = Bounds(max_flows=settings.max_flows)
    table = FlowTable(telemetry, ledger, bounds)
    intake = Intake(telemetry, table, ledger, bounds)
    pipeline = Pipeline(
        source, intake, table, telemetry, KernelLedger(ledger), parts.wait, parts.detach, telemetry.looped, parts.clock
    )
    return pipeline, enricher


def _learn(enricher: Enricher, listeners: bytes) -> None:
    for listener in Listener.unpack_rows(listeners):
        enricher.learn_listener(listener)


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set: the loop ends after its step, and everything is sent."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
