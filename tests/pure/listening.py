"""Sinks and a ledger made of lists, and a short form of exchanges that tests can write down."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_ebpf.flows.bounds import DEFAULT_BOUNDS, Bounds
from otel_ebpf.flows.intake import Intake
from otel_ebpf.flows.table import FlowTable

if TYPE_CHECKING:
    from otel_ebpf.flows.sinks import FlowDelta
    from otel_ebpf.protocols.exchange import Exchange
    from otel_ebpf.records import FlowRecord

    Short = tuple[bytes, bytes, int | None]


@dataclass
class Heard:
    """All that an intake told.

    Attributes:
        exchanges: Every exchange, ordinary or not, in full.
        counted: The arguments of ``count`` for the ordinary ones.
        rows: The ledger.
        events: What the flow table told, by name.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    counted: list[tuple[object, ...]] = field(default_factory=list)
    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    events: list[tuple[object, ...]] = field(default_factory=list)

    def count(self, *values: object) -> bool:
        """Take an ordinary exchange, and ask for it in full."""
        self.counted.append(values)
        return True

    def detail(self, exchange: Exchange) -> None:
        """Take an ordinary exchange in full."""
        self.exchanges.append(exchange)

    def exchange(self, exchange: Exchange) -> None:
        """Take any other exchange."""
        self.exchanges.append(exchange)

    def add(self, stage: str, outcome: str, reason: str = "", n: int = 1) -> None:
        """Take a ledger row."""
        self.rows[stage, outcome, reason] += n

    def opened(self, flow: FlowRecord) -> None:
        """Take the opening of a connection."""
        self.events.append(("opened", flow.id))

    def failed(self, flow: FlowRecord, error_type: str) -> None:
        """Take a failure."""
        self.events.append(("failed", flow.id, error_type))

    def traffic(self, flow: FlowRecord, delta: FlowDelta) -> None:
        """Take traffic."""
        self.events.append(("traffic", flow.id, delta))

    def closed(self, flow: FlowRecord, duration_ns: int) -> None:
        """Take the end of a connection."""
        self.events.append(("closed", flow.id, duration_ns))

    @property
    def short(self) -> list[Short]:
        """Method, target and status of each exchange."""
        return [(e.method, e.target, e.status) for e in self.exchanges]

    @property
    def dropped(self) -> dict[str, int]:
        """Exchanges that were seen and not told, by reason."""
        return {
            reason: n
            for (stage, outcome, reason), n in self.rows.items()
            if (stage, outcome) == ("exchange", "dropped")
        }

    def closes(self) -> bool:
        """Whether the account of exchanges is exact: seen is told plus dropped."""
        return self.rows["exchange", "seen", ""] == len(self.exchanges) + sum(self.dropped.values())


def listen(bounds: Bounds = DEFAULT_BOUNDS) -> tuple[Intake, Heard]:
    """An intake, and where it tells."""
    heard = Heard()
    return Intake(heard, FlowTable(heard, heard, bounds), heard, bounds), heard


def hear(*rings: bytes) -> Heard:
    """What an intake tells of spans of the ring, one after the other."""
    intake, heard = listen()
    for ring in rings:
        intake.take(ring, 0)
    assert heard.closes()
    return heard
