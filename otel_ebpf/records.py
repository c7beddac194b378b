"""Records: what crosses the border from the kernel, as typed values.

In: bytes as ``bpf/include/records.h`` lays them out. Out: value types that every later stage shares.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Protocol

from otel_ebpf.kernel import layout

ROLE_UNKNOWN: Final = 0
ROLE_CLIENT: Final = 1
ROLE_SERVER: Final = 2

ROLE_NAMES: Final = {ROLE_UNKNOWN: "unknown", ROLE_CLIENT: "client", ROLE_SERVER: "server"}

_MAPPED_PREFIX: Final = b"\0" * 10 + b"\xff\xff"  # RFC 4291, 2.5.5.2: IPv4-mapped IPv6 address


@dataclass(frozen=True, slots=True)
class EdgeKey:
    """Who talks to whom, without the client's port (``struct edge_key``).

    Attributes:
        comm: Name of the owner's thread group leader, at most 15 bytes.
        cgroup_id: cgroup v2 id of the owner; 0 when unknown.
        tgid: Process id of the owner in the root namespace; 0 when unknown.
        netns: Inode number of the socket's network namespace.
        local_address: Packed address, 4 or 16 bytes (IPv4-mapped IPv6 addresses are given as IPv4).
        remote_address: Packed address of the other end, 4 or 16 bytes.
        server_port: Port of the serving end; 0 while the role is unknown.
        role: One of ``ROLE_UNKNOWN``, ``ROLE_CLIENT``, ``ROLE_SERVER``.
    """

    comm: bytes
    cgroup_id: int
    tgid: int
    netns: int
    local_address: bytes
    remote_address: bytes
    server_port: int
    role: int

    @classmethod
    def unpack(cls, raw: bytes) -> EdgeKey:
        """Decode the 72 bytes of a ``struct edge_key``."""
        comm, cgroup_id, tgid, netns, local, remote, port, family, role, _ = layout.EDGE_KEY.unpack(raw)
        return cls(
            comm.partition(b"\0")[0], cgroup_id, tgid, netns, packed(local, family), packed(remote, family), port, role
        )

    @property
    def network_type(self) -> str:
        """``ipv4`` or ``ipv6`` (``network.type``)."""
        return "ipv4" if len(self.remote_address) == 4 else "ipv6"


def packed(address: bytes, family: int) -> bytes:
    """Return 4 bytes for IPv4 (mapped or not) and 16 for IPv6, from the 16 bytes of a record."""
    if family == 4:
        return address[:4]
    if address.startswith(_MAPPED_PREFIX):
        return address[12:]
    return address


def address_text(address: bytes) -> str:
    """Text form of a packed address: ``10.0.0.1`` or ``fd00::1`` (RFC 5952)."""
    return str(ipaddress.ip_address(address))


@dataclass(slots=True)
class FlowRecord:
    """The running totals of one connection (``struct flow``); times in ns since boot, sizes in bytes.

    ``edge`` holds the raw 72 bytes: later stages use them as a key and decode them at most once per edge.
    """

    flags: int
    id: int
    edge: bytes
    local_port: int
    remote_port: int
    protocol: int
    state: int
    error: int
    opened_ns: int
    established_ns: int
    handshake_ns: int
    accepted_ns: int
    closed_ns: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    reads: int
    writes: int
    srtt_us: int
    retransmits: tuple[int, ...]

    @classmethod
    def unpack(cls, buffer: bytes, offset: int = 0) -> FlowRecord:
        """Decode one ``struct flow`` at *offset*."""
        v = layout.FLOW.unpack_from(buffer, offset)
        return cls(*(*v[1:9], *v[10:22], v[22:28]))


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket found at start (``struct listener``)."""

    netns: int
    port: int
    tgid: int
    address: bytes

    @classmethod
    def unpack(cls, buffer: bytes, offset: int = 0) -> Listener:
        """Decode one ``struct listener`` at *offset*."""
        _, netns, port, family, _, tgid, address = layout.LISTENER.unpack_from(buffer, offset)
        return cls(netns, port, tgid, packed(address, family))

    @classmethod
    def unpack_rows(cls, rows: bytes) -> tuple[Listener, ...]:
        """Decode all that stand one after the other in *rows*."""
        size = layout.LISTENER.size
        return tuple(cls.unpack(rows, offset) for offset in range(0, len(rows) - size + 1, size))


@dataclass(slots=True)
class Batch:
    """All that one turn of the loop took from the kernel.

    Attributes:
        time_ns: CLOCK_MONOTONIC when it was taken.
        ring: Bytes copied from the ring, in order: records with their 8-byte ring headers, whole records only.
        flows: Rows of ``struct flow`` of live flows, one after the other; None when the flows were not read this time.
        counters: Totals since the start by index ``COUNT_*``; None when they were not read this time.
    """

    time_ns: int
    ring: bytes
    flows: bytes | None = None
    counters: tuple[int, ...] | None = None


class RecordSource(Protocol):
    """Where batches come from: the kernel, or a recording."""

    def take(self, *, with_flows: bool) -> Batch:
        """Return what has gathered since the last call; never waits."""
