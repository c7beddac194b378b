"""THE table of figures: what is measured, what it must be, and what the best known peer has.

In: nothing. Out: :data:`FIGURES`; a measurement gives a value to a name of this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing to measure.

    Attributes:
        name: Key in ``results.json``.
        title: What a person reads.
        unit: Of value and target.
        target: What it must be; None when the figure is only told.
        reference: Best figure known of somebody else, in words.
        more_is_better: Whether the target is a lower bound.
    """

    name: str
    title: str
    unit: str
    target: float | None = None
    reference: str = ""
    more_is_better: bool = False

    def met(self, value: float) -> bool | None:
        """Whether the value is as good as the target; None without a target."""
        if self.target is None:
            return None
        return value >= self.target if self.more_is_better else value <= self.target


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value for a figure of the table."""

    name: str
    value: float


_SOURCES: Final = (
    ("tp_btf", 450.0),
    ("fentry", None),
    ("kprobe", None),
    ("syscall", None),
    ("default", None),
)
_WHERE_SET: Final = "2,800 ns where the targets were set"
# The target in nanoseconds belongs to one machine; as a share of what the exchange costs anyway it holds on others: two
# times 450 ns of 2,800.
_SHARE: Final = 32.0
_WHERE: Final = "26 to 30 % where the targets were set"
_PEERS_USER: Final = "Coroot ≈ 20 µs, DeepFlow ≈ 11 µs"
_PEERS_CPU: Final = "Coroot 0.2 to 0.3 core at 10k/s"
_PEERS_RATIO: Final = "OBI ~0 % (HTTP/2, ≥ 2 streams)"
_NOBODY: Final = "nobody publishes it"
_PEERS_MEMORY: Final = "OBI 75 to 120 MB"


def _capture(source: str, target: float | None) -> tuple[Figure, ...]:
    return (
        Figure(f"capture.{source}.exchange", f"{source}: one exchange, one side, in the kernel", "ns", target),
        Figure(
            f"capture.{source}.share", f"{source}: added to a round trip, two exchanges", "%", target and _SHARE, _WHERE
        ),
        Figure(f"capture.{source}.other_call", f"{source}: added to any other system call", "ns"),
        Figure(f"capture.{source}.file_call", f"{source}: added to a read or write of a file", "ns"),
    )


FIGURES: Final[tuple[Figure, ...]] = (
    Figure("machine.round_trip", "this machine: one round trip (2 exchanges), no agent", "ns", None, _WHERE_SET),
    *(figure for source, target in _SOURCES for figure in _capture(source, target)),
    Figure("user.metrics", "user space: one exchange, metrics only", "µs", 2.5, _PEERS_USER),
    Figure("user.details", "user space: one exchange, with log record and span", "µs", 8.0, "SDK: span alone 112 µs"),
    Figure("user.metrics.new", "user space: the same, when every path is new", "µs"),
    Figure("user.details.new", "user space: the same with log record and span", "µs"),
    # Both ends of the load are on this machine: the agent sees and tells each of these exchanges twice.
    Figure("cpu.metrics.1000", "agent at 1,000 exchanges/s (both ends), metrics only", "cores"),
    Figure("cpu.metrics.5000", "agent at 5,000 exchanges/s (both ends), metrics only", "cores"),
    Figure("cpu.metrics.10000", "agent at 10,000 exchanges/s (both ends), metrics only", "cores", 0.05, _PEERS_CPU),
    Figure("cpu.details.10000", "agent at 10,000 exchanges/s (both ends), log, span of all", "cores", 0.12, _PEERS_CPU),
    Figure("memory.idle", "resident memory, idle", "MB", 80.0, _PEERS_MEMORY),
    Figure("memory.after", "resident memory, after all loads", "MB", 80.0, _PEERS_MEMORY),
    Figure("memory.details", "resident memory, after logs and spans by gRPC", "MB", 80.0, _PEERS_MEMORY),
    Figure("memory.maps", "memory of the kernel's maps", "MB", 32.0, "OBI 338 MB"),
    Figure("memory.child", "compile child, peak", "MB", 150.0),
    Figure("start.capturing", "start to capturing", "s", 2.0, "OBI 5 to 10 s per process"),
    Figure("ratio.10000", "captured at 10,000 exchanges/s", "%", 100.0, _PEERS_RATIO, more_is_better=True),
    Figure("dropped.10000", "dropped by the ledger at 10,000 exchanges/s", "records", 0.0),
    Figure("rate.highest", "highest rate of this machine with the agent on", "1/s"),
    Figure("rate.highest.plain", "highest rate of this machine without the agent", "1/s"),
    Figure("ratio.highest", "captured or counted as lost at that rate", "%", 100.0, _NOBODY, more_is_better=True),
    Figure("captured.highest", "captured at that rate", "%"),
    Figure("dropped.highest", "dropped by the ledger at that rate", "records"),
)
