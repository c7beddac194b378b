"""The loop, on one page: batches in; exchanges, flows and the ledger on; telemetry out.

In: a record source. Out: nothing of its own. Everything a step does depends on the batch and its time alone, so that a
replay gives what the live run gave.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from otel_ebpf.kernel_ledger import KernelLedger

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from otel_ebpf.clock import FixedClock
    from otel_ebpf.flows.intake import Intake
    from otel_ebpf.flows.table import FlowTable
    from otel_ebpf.records import Batch, RecordSource

STEP_S: Final = 0.1  # nobody is woken per record; 100 ms is below what a person calls a delay
_LAST_STEP_S: Final = 0.01
_QUIET_NS: Final = 500_000_000  # the sweep, every 0.2 s, tells of a turn after 0.25 s of silence: also of the last
_FLOWS_INTERVAL_NS: Final = 5_000_000_000  # round-trip times are sampled this often; totals cannot be missed


class Output(Protocol):
    """What the loop needs of the telemetry stage."""

    def tick(self, now_ns: int) -> None:
        """Send what is due at *now_ns*, ns since boot."""

    def shutdown(self) -> None:
        """Send everything, within a bounded time."""


@dataclass(slots=True)
class Pipeline:
    """The stages in their order.

    Attributes:
        wait: Waits so many seconds, or until the source has much to give.
        detach: Ends the capture; what has gathered can still be taken.
        watch: Told how long each step took, in ns of the clock.
        clock: Set to the time of each batch: what the stages behind do depends on nothing else.
    """

    source: RecordSource
    intake: Intake
    flows: FlowTable
    output: Output
    kernel: KernelLedger
    wait: Callable[[float], None]
    detach: Callable[[], None]
    watch: Callable[[int], None]
    clock: FixedClock
    _flows_due_ns: int = 0

    def run(self, stop: threading.Event, deadline_ns: int | None) -> None:
        """Step until *stop* is set or the monotonic clock passes *deadline_ns*; then take a last look."""
        while not stop.is_set() and (deadline_ns is None or time.monotonic_ns() < deadline_ns):
            began_ns = time.monotonic_ns()
            batch = self.source.take(with_flows=began_ns >= self._flows_due_ns)
            self.step(batch)
            self.watch(time.monotonic_ns() - began_ns)
            self.wait(STEP_S)
        quiet_ns = time.monotonic_ns() + _QUIET_NS
        while time.monotonic_ns() < quiet_ns:
            self.step(self.source.take(with_flows=False))
            self.wait(_LAST_STEP_S)
        self.detach()  # nothing may come between the last look at the ring and at the counters: they must agree
        self.wait(_LAST_STEP_S)
        self.step(self.source.take(with_flows=True))
        self.finish()

    def step(self, batch: Batch) -> None:
        """Pass one batch through all stages."""
        self.clock.now_ns = batch.time_ns
        if batch.flows is not None:
            self._flows_due_ns = batch.time_ns + _FLOWS_INTERVAL_NS
            self.clock.refresh()
            self.flows.take_rows(batch.flows)
        self.intake.take(batch.ring, batch.time_ns)
        self.intake.expire(batch.time_ns)
        if batch.counters is not None:
            self.kernel.take(batch.counters)
            self.kernel.passed(self.intake)
        self.output.tick(batch.time_ns)

    def finish(self) -> None:
        """Report what is still open, and send everything."""
        self.intake.finish()
        self.output.shutdown()
