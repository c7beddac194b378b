"""Turn: one turn record as a value, for the slow path.

In: the bytes of ``struct turn``. Out: its fields, its two captured runs, and what its flags say.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.kernel import layout
from otel_ebpf.records import ROLE_CLIENT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TURN_BYTES: Final = layout.TURN.size
"""Bytes of a turn before its captured bytes."""


def glance(names: Collection[str], head: str = "") -> struct.Struct:
    """What reads the fields of a turn that have these names, in the record's order; the others it passes over unread.

    *head* is the format of what stands before the turn.
    """
    codes = (code if name in names else f"{struct.calcsize(f'<{code}')}x" for name, code in layout.TURN_RECORD.fields)
    return struct.Struct(f"<{head}{''.join(codes)}")


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of turns and flows that decide something here, by the names of ``records.h``."""

    snapshot: int
    closed: int
    joined: int
    wide: int
    request_gap: int
    response_gap: int
    opaque: int
    tail: int
    reset_received: int
    reset_sent: int
    timed_out: int
    first: int

    @classmethod
    def of(cls, constants: Mapping[str, int]) -> Flags:
        """Pick them from the constants of the header."""
        return cls(**{name: constants[f"TURN_{name.upper()}"] for name in cls.__slots__})

    @property
    def ordinary(self) -> int:
        """Flags that a complete exchange may carry without being anything special."""
        parts = self.snapshot, self.closed, self.joined, self.request_gap, self.response_gap, self.tail, self.first
        return sum(parts)

    def error_type(self, flags: int) -> str:
        """How the connection of a closed turn ended, as ``error.type`` of what it cut short."""
        return Endings(self.reset_received | self.reset_sent, self.timed_out).error_type(flags)


class Endings(NamedTuple):
    """The flags that say how a connection ended, of turns or of flows."""

    reset: int
    timed_out: int

    def error_type(self, flags: int) -> str:
        """``error.type`` of what that end cut short: ``reset``, ``timed_out`` or ``closed``."""
        if flags & self.reset:
            return "reset"
        return "timed_out" if flags & self.timed_out else "closed"


@cache
def turn_flags() -> Flags:
    """The flags of turns."""
    return Flags.of(layout.constants())


@cache
def flow_endings() -> Endings:
    """The flags of flow records that say how the connection ended."""
    constants = layout.constants()
    return Endings(constants["FLOW_RESET_RECEIVED"] | constants["FLOW_RESET_SENT"], constants["FLOW_TIMED_OUT"])


class Turn(NamedTuple):
    """``struct turn``, field by field, then the captured bytes of both parts."""

    kind: int
    sequence: int
    flow_id: int
    edge: bytes
    local_port: int
    remote_port: int
    request_captured: int
    response_captured: int
    request_position: int
    response_position: int
    request_bytes: int
    response_bytes: int
    request_first_ns: int
    request_last_ns: int
    response_first_ns: int
    response_last_ns: int
    handshake_ns: int
    flags: int
    srtt_us: int
    retransmits: int
    reserved: int
    tail: bytes
    request: bytes
    response: bytes

    @classmethod
    def unpack(cls, buffer: bytes, offset: int) -> Turn:
        """Decode the turn at *offset*."""
        fields = layout.TURN.unpack_from(buffer, offset)
        start = offset + TURN_BYTES
        middle = start + fields[6]
        return cls._make((*fields, buffer[start:middle], buffer[middle : middle + fields[7]]))

    @property
    def client_handshake_ns(self) -> int:
        """The handshake that the first request of a client waited for; 0 for everybody else."""
        return self.handshake_ns if self.flags & turn_flags().first and role_of(self.edge) == ROLE_CLIENT else 0


@cache
def _role_offset() -> int:
    """Where ``role`` stands in ``struct edge_key``."""
    offset = 0
    for name, code in layout.EDGE_KEY_RECORD.fields:
        if name == "role":
            return offset
        offset += struct.calcsize(f"<{code}")
    raise AssertionError


def role_of(edge: bytes) -> int:
    """The role in the raw bytes of a ``struct edge_key``."""
    return edge[_role_offset()]
