"""Connections as metrics: exact values and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.pure.telemetry.making import (
    CLIENT,
    MS,
    SERVER,
    Bench,
    S,
    SomeEnricher,
    attributes,
    bench,
    flow,
    points,
    raw_edge,
)

PEER = {"ebpf.peer.type": "external", "server.port": 80, "network.transport": "tcp", "network.type": "ipv4"}


@dataclass
class Delta:
    """What a flow did."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    reads: int = 0
    writes: int = 0
    retransmits: tuple[int, ...] = (0,) * 6
    reset_sent: bool = False
    reset_received: bool = False
    srtt_us: int = 0


def told(b: Bench, service: str, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
    """Return value by attributes beyond those of the other end; histograms as (count, sum)."""
    metric = b.collect()[service].get(name)
    found = {}
    for point in points(metric) if metric else []:
        own = attributes(point.attributes)
        assert PEER.items() <= own.items()
        value = (point.count, point.sum) if hasattr(point, "bucket_counts") else point.as_int
        found[frozenset(own.items() - PEER.items())] = value
    return found


def of(**own: Any) -> frozenset[tuple[str, Any]]:
    """Return attributes, written with _ for the dots."""
    return frozenset((key.replace("_", "."), value) for key, value in own.items())


@pytest.mark.parametrize(("edge", "service", "role"), [(SERVER, "nginx", "server"), (CLIENT, "curl", "client")])
def test_opened(edge: bytes, service: str, role: str) -> None:
    """An established connection is counted with its handshake, and on the server with its wait for accept()."""
    b = bench()
    b.telemetry.opened(flow(edge=edge))
    assert told(b, service, "ebpf.tcp.connections") == {of(ebpf_role=role): 1}
    assert told(b, service, "ebpf.tcp.handshake.duration") == {of(ebpf_role=role): (1, 0.001)}
    wait = {of(): (1, 0.002)} if role == "server" else {}
    assert told(b, service, "ebpf.tcp.accept.wait") == wait
    operation = "accept" if role == "server" else "connect"
    assert told(b, service, "ebpf.socket.calls") == {of(ebpf_socket_operation=operation): 1}


def test_older_than_the_agent() -> None:
    """A connection that was open before is no new one and has no handshake, but is active and has traffic."""
    b = bench()
    b.telemetry._active = lambda: {SERVER: 3}
    old = flow(established_ns=0, handshake_ns=0)
    b.telemetry.opened(old)
    b.telemetry.traffic(old, Delta(bytes_sent=5))
    b.telemetry.closed(old, S)
    assert told(b, "nginx", "ebpf.tcp.connections") == {}
    assert told(b, "nginx", "ebpf.tcp.connection.duration") == {}
    assert told(b, "nginx", "ebpf.tcp.connections.active") == {of(ebpf_role="server"): 3}
    assert sum(told(b, "nginx", "ebpf.network.io").values()) == 5


def test_failed() -> None:
    """A connection that was refused is counted with its reason, and so is the connect() that failed."""
    b = bench()
    b.telemetry.failed(flow(edge=CLIENT, established_ns=0), "refused")
    assert told(b, "curl", "ebpf.tcp.connections") == {of(ebpf_role="client", error_type="refused"): 1}
    assert told(b, "curl", "ebpf.socket.calls") == {of(ebpf_socket_operation="connect", error_type="refused"): 1}


def test_traffic() -> None:
    """Bytes, segments, calls, retransmits, resets and round-trip time are told each under its attributes."""
    b = bench()
    delta = Delta(1000, 200, 3, 2, 4, 5, (1, 0, 2, 0, 0, 0), reset_received=True, srtt_us=1500)
    b.telemetry.traffic(flow(), delta)
    b.telemetry.traffic(flow(), Delta(bytes_sent=1))
    sent = {"network_io_direction": "transmit", "ebpf_role": "server"}
    received = {"network_io_direction": "receive", "ebpf_role": "server"}
    http = of(network_protocol_name="http")
    assert told(b, "nginx", "ebpf.network.io") == {of(**sent) | http: 1001, of(**received) | http: 200}
    assert told(b, "nginx", "ebpf.network.packets") == {of(**sent) | http: 3, of(**received) | http: 2}
    assert told(b, "nginx", "ebpf.socket.calls") == {
        of(ebpf_socket_operation="read"): 4,
        of(ebpf_socket_operation="write"): 5,
    }
    assert told(b, "nginx", "ebpf.tcp.retransmits") == {
        of(ebpf_tcp_retransmit_type="fast"): 1,
        frozenset({("ebpf.tcp.retransmit.type", "tail_loss_probe")}): 2,
    }
    assert told(b, "nginx", "ebpf.tcp.resets") == {of(network_io_direction="receive"): 1}
    assert told(b, "nginx", "ebpf.tcp.rtt") == {of(): (1, 0.0015)}


def test_protocol_is_told_only_when_known() -> None:
    """Traffic of a flow that is no HTTP carries no protocol name."""
    b = bench()
    b.telemetry.traffic(flow(protocol=4), Delta(bytes_sent=1))
    assert told(b, "nginx", "ebpf.network.io") == {of(network_io_direction="transmit", ebpf_role="server"): 1}


def test_closed() -> None:
    """The end of a connection tells its life, and the close()."""
    b = bench()
    b.telemetry.closed(flow(), 250 * MS)
    assert told(b, "nginx", "ebpf.tcp.connection.duration") == {of(ebpf_role="server"): (1, 0.25)}
    assert told(b, "nginx", "ebpf.socket.calls") == {of(ebpf_socket_operation="close"): 1}


def test_active_falls_to_zero() -> None:
    """When the last connection of an edge has gone, its number is told as 0 rather than not told."""
    b = bench()
    open_flows = {SERVER: 2, raw_edge(remote="10.0.0.8"): 1}
    b.telemetry._active = lambda: open_flows
    assert told(b, "nginx", "ebpf.tcp.connections.active") == {of(ebpf_role="server"): 3}
    open_flows.clear()
    assert told(b, "nginx", "ebpf.tcp.connections.active") == {of(ebpf_role="server"): 0}


def test_unwatched_flows_are_not_told() -> None:
    """What the selectors do not want is in no metric."""
    b = bench(SomeEnricher(unwatched={b"nginx"}))
    b.telemetry._active = lambda: {SERVER: 1}
    b.telemetry.opened(flow())
    b.telemetry.failed(flow(), "reset")
    b.telemetry.traffic(flow(), Delta(bytes_sent=1))
    b.telemetry.closed(flow(), S)
    assert "nginx" not in b.collect()


def test_many_edges_do_not_grow() -> None:
    """Connections from twenty thousand addresses are one series of an unnamed peer, and caches stay bounded."""
    b = bench()
    for index in range(20_000):
        b.telemetry.opened(flow(edge=raw_edge(remote=f"10.1.{index >> 8}.{index & 255}")))
    connections: Any = b.telemetry._connections
    edges: Any = b.telemetry._edges
    assert len(connections._views) <= 4096
    assert len(edges._known) + len(edges._older) <= 8192
    assert told(b, "nginx", "ebpf.tcp.connections") == {of(ebpf_role="server"): 20_000}
