"""Ring bytes as the kernel side would write them under load: ordinary keep-alive exchanges, one record each.

In: how many, over how many connections and paths. Out: bytes of a ring span, records with their headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from otel_ebpf.kernel import layout
from otel_ebpf.records import ROLE_SERVER

_RING_HEADER: Final = struct.Struct("<II")
_TCP_PORT: Final = 8080
_REQUEST: Final = (
    b"GET /api/users/%d/orders?page=%d HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-%016x-01\r\n\r\n"
)
_RESPONSE: Final = (
    b"HTTP/1.1 %d Fine\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
_STATUSES: Final = (200,) * 18 + (404, 500)
_BODY_BYTES: Final = 600
_THINK_NS: Final = 700_000
_LOCALHOST: Final = bytes((127, 0, 0, 1)) + bytes(12)
_CLIENT_PORTS: Final = 30000


@dataclass(slots=True)
class _Connection:
    """Where one connection stands."""

    flow_id: int
    edge: bytes
    sequence: int = 0
    sent: int = 0
    received: int = 0


class Exchanges:
    """Makes span after span; connections go on from one to the next, as on a machine.

    Args:
        connections: Kept alive and used in turn.
        paths: Different request lines, used in turn; each has one of 20 statuses.
    """

    def __init__(self, *, connections: int, paths: int) -> None:
        self._connections = [_Connection(number + 1, _edge(number)) for number in range(connections)]
        self._paths = paths
        self._made = 0

    def span(self, count: int, time_ns: int) -> bytes:
        """The records of *count* exchanges that ended just before *time_ns*."""
        first_ns = time_ns - count * 1000
        return b"".join(_framed(self._record(first_ns + number * 1000)) for number in range(count))

    def _record(self, time_ns: int) -> bytes:
        number = self._made
        self._made += 1
        connection = self._connections[number % len(self._connections)]
        user = number % self._paths
        request = _REQUEST % (user, user % 7, number)
        response = _RESPONSE % (_STATUSES[user % len(_STATUSES)], _BODY_BYTES, b"x" * _BODY_BYTES)
        return _turn(connection, request, response, time_ns)


def _turn(connection: _Connection, request: bytes, response: bytes, time_ns: int) -> bytes:
    connection.sequence += 1
    captured = response[: layout.constants()["RESPONSE_INLINE_BYTES"]]
    values = {
        "kind": layout.constants()["RECORD_TURN"],
        "sequence": connection.sequence,
        "flow_id": connection.flow_id,
        "edge": connection.edge,
        "local_port": _TCP_PORT,
        "remote_port": _CLIENT_PORTS + connection.flow_id,
        "request_captured": len(request),
        "response_captured": len(captured),
        "request_position": connection.received,
        "response_position": connection.sent,
        "request_bytes": len(request),
        "response_bytes": len(response),
        "request_first_ns": time_ns - _THINK_NS,
        "request_last_ns": time_ns - _THINK_NS,
        "response_first_ns": time_ns,
        "response_last_ns": time_ns,
        "flags": layout.constants()["TURN_TAIL"],
        "srtt_us": 40,
        "tail": response[-8:],
    }
    connection.received += len(request)
    connection.sent += len(response)
    defaults = {name: 0 for name, _ in layout.TURN_RECORD.fields}
    return layout.TURN.pack(*(values.get(name, zero) for name, zero in defaults.items())) + request + captured


def _edge(number: int) -> bytes:
    """Four clients of one server, by address."""
    remote = bytes((127, 0, 0, 2 + number % 4)) + bytes(12)
    return layout.EDGE_KEY.pack(b"nginx", 1, 1, 1, _LOCALHOST, remote, _TCP_PORT, 4, ROLE_SERVER, 0)


def _framed(record: bytes) -> bytes:
    """A record behind its ring header, padded to 8 bytes (kernel/bpf/ringbuf.c)."""
    padded = record + bytes(-len(record) % 8)
    return _RING_HEADER.pack(len(record), 0) + padded
