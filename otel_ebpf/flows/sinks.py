"""Sinks: what the stage tells, and to whom. Telemetry implements both; tests implement them with lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_ebpf.protocols.exchange import Exchange
    from otel_ebpf.records import FlowRecord


class ExchangeSink(Protocol):
    """Takes exchanges."""

    def count(  # noqa: PLR0913, PLR0917  # the hot path: an object per exchange would cost more than everything else here
        self,
        edge: bytes,
        request_line: bytes,
        status: bytes,
        duration_ns: int,
        first_byte_ns: int,
        request_header_bytes: int,
        request_body_bytes: int,
        response_header_bytes: int,
        response_body_bytes: int,
    ) -> bool:
        """Count one complete ordinary exchange; True: build the :class:`Exchange` and pass it to :meth:`detail`.

        *request_line* is ``b"GET /a?b HTTP/1.1"``, *status* three digits; a size that is unknown is -1.
        """

    def detail(self, exchange: Exchange) -> None:
        """Tell an exchange in full that :meth:`count` has counted."""

    def exchange(self, exchange: Exchange) -> None:
        """Count an exchange that is not ordinary, and tell it in full if that is wanted."""


@dataclass(frozen=True, slots=True)
class FlowDelta:
    """What a connection did since it was last looked at; as in :class:`FlowRecord`.

    Attributes:
        bytes_sent: Payload.
        bytes_received: Payload.
        packets_sent: Segments.
        packets_received: Segments.
        reads: Calls that moved bytes.
        writes: Calls that moved bytes.
        retransmits: By type, in the order of ``RETRANSMIT_*``.
        reset_sent: This end reset the connection since.
        reset_received: The peer did.
        srtt_us: The smoothed round-trip time now, not a difference; 0 while there is none.
    """

    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    reads: int
    writes: int
    retransmits: tuple[int, ...]
    reset_sent: bool
    reset_received: bool
    srtt_us: int


class FlowSink(Protocol):
    """Takes what happens to connections."""

    def opened(self, flow: FlowRecord) -> None:
        """A connection is established, or was before the agent came.

        Once per connection, when its handshake and its wait for accept are known.
        """

    def failed(self, flow: FlowRecord, error_type: str) -> None:
        """A connection was asked for and never established."""

    def traffic(self, flow: FlowRecord, delta: FlowDelta) -> None:
        """A connection moved bytes or packets since the last look."""

    def closed(self, flow: FlowRecord, duration_ns: int) -> None:
        """An established connection ended *duration_ns* after it was established or first seen."""


class LedgerLike(Protocol):
    """The account of everything seen; the agent's own is in telemetry."""

    def add(self, stage: str, outcome: str, reason: str = "", n: int = 1) -> None:
        """Add *n* to one row."""
