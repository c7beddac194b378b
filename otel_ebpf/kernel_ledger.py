"""The kernel's part of the ledger: its counters become rows, so that what never reached the ring is accounted for, too.

In: totals by ``COUNT_*`` of ``bpf/include/records.h``, and how many records were taken from the ring. Out: ledger rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from otel_ebpf.kernel import layout

if TYPE_CHECKING:
    from otel_ebpf.flows.sinks import LedgerLike


@dataclass(frozen=True, slots=True)
class Row:
    """A counter of the kernel, and its row of the ledger."""

    counter: str
    stage: str
    outcome: str
    reason: str = ""


# Turns, segments and flows: what the kernel tried to hand over, and what the ring refused. The others have no
# counterpart that passed: they are losses, or facts that explain one.
ROWS: Final = (
    Row("COUNT_TURNS", "kernel.turn", "seen"),
    Row("COUNT_TURNS_LOST", "kernel.turn", "dropped", "ring_full"),
    Row("COUNT_SNAPSHOTS", "kernel.snapshot", "seen"),
    Row("COUNT_SNAPSHOTS_LOST", "kernel.snapshot", "dropped", "ring_full"),
    Row("COUNT_SEGMENTS", "kernel.segment", "seen"),
    Row("COUNT_SEGMENTS_LOST", "kernel.segment", "dropped", "ring_full"),
    Row("COUNT_FLOWS", "kernel.flow", "seen"),
    Row("COUNT_FLOWS_LOST", "kernel.flow", "dropped", "ring_full"),
    Row("COUNT_FLOW_MAP_FULL", "kernel.connection", "dropped", "flow_map_full"),
    Row("COUNT_EXCHANGE_MAP_FULL", "kernel.connection", "dropped", "exchange_map_full"),
    Row("COUNT_PROTOCOL_GIVEN_UP", "kernel.connection", "dropped", "protocol_unknown"),
    Row("COUNT_READ_FAULTS", "kernel.call", "dropped", "read_fault"),
    # sendfile and the like: their bytes are counted, only not read.
    Row("COUNT_UNREADABLE_CALLS", "kernel.call", "aggregated", "not_in_user_memory"),
    Row("COUNT_CONTENDED_CALLS", "kernel.call", "dropped", "two_threads_at_once"),
    Row("COUNT_RESETS_WITHOUT_FLOW", "kernel.reset", "dropped", "no_flow"),
    Row("COUNT_RETRANSMITS_WITHOUT_FLOW", "kernel.retransmit", "dropped", "no_flow"),
)


_PASSED: Final = {
    "turns": "kernel.turn",
    "snapshots": "kernel.snapshot",
    "segments": "kernel.segment",
    "flows": "kernel.flow",
}


class Taken(Protocol):
    """Totals of the records that came out of the ring, by kind."""

    turns: int
    snapshots: int
    segments: int
    flows: int


class KernelLedger:
    """Adds to the ledger what the counters have gained since the last look."""

    def __init__(self, ledger: LedgerLike) -> None:
        self._ledger = ledger
        numbers = layout.constants()
        self._indexed = tuple((numbers[row.counter], row) for row in ROWS)
        self._seen: dict[int, int] = {}
        self._passed = dict.fromkeys(_PASSED, 0)

    def take(self, totals: tuple[int, ...]) -> None:
        """Account for new *totals*."""
        for index, row in self._indexed:
            gained = totals[index] - self._seen.get(index, 0)
            if gained:
                self._seen[index] = totals[index]
                self._ledger.add(row.stage, row.outcome, row.reason, gained)

    def passed(self, taken: Taken) -> None:
        """Account for what has come out of the ring since the last call."""
        for name, stage in _PASSED.items():
            total: int = getattr(taken, name)
            gained = total - self._passed[name]
            if gained:
                self._passed[name] = total
                self._ledger.add(stage, "passed", n=gained)
