"""Floods, and the bounds they meet: what does not fit is counted, memory is bounded, and the agent stays well."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.kernel.watching import ANSWER, RESIDENT_BYTES, Watched, opened, watching
from tests.kernel.wire import Wire, ask, close, new_wire, reset
from tests.support.processes import free_port

# Room for a second of a flood: on a machine with one processor the test keeps the agent from reading that long.
_COUNTED_ONLY: Final = {
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_EBPF_RING_SIZE": "16777216",
}


def test_port_scan(tmp_path: Path) -> None:
    """10,000 connections without a byte, and 1,000 that are refused, are counted exactly; nothing is exchanged."""
    with watching(tmp_path, _COUNTED_ONLY) as watched, new_wire() as wire:
        for _ in range(10_000):
            client, server = wire.connect()
            reset(client)
            server.close()
        closed = free_port()
        for _ in range(1_000):
            with socket.socket() as probe, suppress(ConnectionRefusedError):
                probe.connect(("127.0.0.1", closed))
        watched.wait(lambda: watched.connections(wire.port) == opened(10_000))
        assert watched.connections(wire.port) == opened(10_000)
        assert watched.connections(closed) == {("client", "refused"): 1_000}
        resets = watched.sums("ebpf.tcp.resets", wire.port, "network.io.direction")
        assert resets == {("transmit",): 10_000, ("receive",): 10_000}
        assert watched.sums("http.server.request.duration", wire.port) == {}
        _expect_still_counting(watched)


def test_short_connections(tmp_path: Path) -> None:
    """20,000 connections of one request each are 20,000 connections and 20,000 exchanges at both ends."""
    with watching(tmp_path, _COUNTED_ONLY) as watched, new_wire() as wire:
        for _ in range(20_000):
            client, server = wire.connect()
            client.sendall(b"GET /short HTTP/1.1\r\nConnection: close\r\n\r\n")
            server.recv(4096)
            server.sendall(ANSWER)
            client.recv(4096)
            close(server, client)
        watched.wait(lambda: watched.connections(wire.port) == opened(20_000))
        assert watched.connections(wire.port) == opened(20_000)
        assert watched.sums("http.server.request.duration", wire.port, "http.route") == {("/short",): 20_000}
        assert watched.sums("http.client.request.duration", wire.port, "url.template") == {("/short",): 20_000}
        assert watched.sums("ebpf.tcp.connections.active", wire.port) in ({}, {(): 0})
        _expect_still_counting(watched)


def test_50_000_distinct_paths(tmp_path: Path) -> None:
    """A service that is asked for 50,000 distinct words has 100 routes and one for the rest; every request counts."""
    with watching(tmp_path, _COUNTED_ONLY) as watched, new_wire() as wire:
        _ask_for_words(wire, 50_000)
        routes = _routes(watched, wire, 50_000)
        assert len(routes) <= 100 + 2
        assert sum(routes.values()) == 50_000
        _expect_still_counting(watched, "/*")


def test_series_beyond_the_limit_are_one(tmp_path: Path) -> None:
    """Beyond the limit of series everything is counted in the overflow series, and how many were refused is told."""
    limits = {"OTEL_EBPF_ROUTE_LIMIT": "10000", "OTEL_EBPF_CARDINALITY_LIMIT": "100"}
    with watching(tmp_path, {**_COUNTED_ONLY, **limits}) as watched, new_wire() as wire:
        _ask_for_words(wire, 3_000)
        watched.wait(lambda: _all_measured(watched) >= 3_000)
        routes = watched.sums("http.server.request.duration", wire.port, "http.route")
        assert len(routes) < 100
        assert _all_measured(watched) >= 3_000
        assert watched.sums("otel_ebpf.metric.series.refused", None)[()] >= 2_900
        assert watched.agent.resident_peak_bytes() < RESIDENT_BYTES
        watched.finish()


def _all_measured(watched: Watched) -> int:
    return sum(watched.sums("http.server.request.duration", None).values())


def _routes(watched: Watched, wire: Wire, count: int) -> dict[str, int]:
    def found() -> dict[tuple[str, ...], int]:
        return watched.sums("http.server.request.duration", wire.port, "http.route")

    watched.wait(lambda: sum(found().values()) == count)
    return {route: n for (route,), n in found().items()}


def _ask_for_words(wire: Wire, count: int) -> None:
    """So many requests over one connection, each for a word of its own: nothing that looks like an id."""
    client, server = wire.connect()
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(count):
        word = "".join(letters[number // 26**place % 26] for place in range(4))
        client.sendall(f"GET /{word} HTTP/1.1\r\n\r\n".encode())
        server.recv(4096)
        server.sendall(ANSWER)
        client.recv(4096)
    close(client, server)


def _expect_still_counting(watched: Watched, route: str = "/health") -> None:
    """Assert that an ordinary exchange is counted under *route*, memory is bounded, and the ledger closes."""
    with new_wire() as wire:
        client, server = wire.connect()
        client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        server.recv(4096)
        server.sendall(ANSWER)
        client.recv(4096)
        close(client, server)
        watched.wait(lambda: bool(watched.sums("http.client.request.duration", wire.port)))
        assert watched.sums("http.server.request.duration", wire.port, "http.route") == {(route,): 1}
        assert watched.sums("http.client.request.duration", wire.port, "url.template") == {(route,): 1}
    assert watched.agent.resident_peak_bytes() < RESIDENT_BYTES
    watched.finish()


def test_ring_that_is_too_small(tmp_path: Path) -> None:
    """While nobody reads a ring of 64 KiB it fills: what was sent is what is told and what is counted as lost."""
    count = 1_000
    settings = {**_COUNTED_ONLY, "OTEL_EBPF_RING_SIZE": "65536"}
    with watching(tmp_path, settings) as watched, new_wire() as wire:
        client, server = wire.connect()
        watched.agent.child.send_signal(signal.SIGSTOP)
        resident = watched.agent.resident_bytes()
        try:
            ask(client, server, b"/burst", count)
        finally:
            watched.agent.child.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # the agent looks every 100 ms: the ring has room again
        ask(client, server, b"/after", 10)
        close(client, server)
        watched.wait(lambda: watched.connections(wire.port) == opened(1))
        watched.wait_for_totals()
        told = sum(watched.sums("http.server.request.duration", wire.port, "http.route").values())
        told += sum(watched.sums("http.client.request.duration", wire.port, "url.template").values())
        lost = _rows(watched, "kernel.turn", "dropped")
        # The last turn before the silence was told by the sweep, and is not sent again.
        others = sum(_rows(watched, stage, "seen") for stage in ("kernel.turn", "kernel.snapshot")) - 2 * (count + 10)
        assert lost > count
        assert 0 <= told + lost - 2 * (count + 10) <= others
        assert watched.sums("http.server.request.duration", wire.port, "http.route")["/after",] == 10
        assert watched.connections(wire.port) == opened(1)
        assert watched.agent.resident_bytes() < resident + (16 << 20)
        _expect_still_counting(watched)


def test_more_connections_than_the_map_holds(tmp_path: Path) -> None:
    """Of 200 connections at once with room for 64 ends, each end is told rightly or counted as not tracked."""
    count = 200
    settings = {"OTEL_EBPF_MAX_FLOWS": "64"}
    with watching(tmp_path, settings) as watched, new_wire() as wire:
        opens = _opens()
        ends = [wire.connect() for _ in range(count)]
        for number, (client, server) in enumerate(ends):
            ask(client, server, b"/held/%d" % number, 2)
        others = _opens() - opens - 2 * count
        for client, server in ends:
            close(client, server)
        watched.wait(lambda: _rows(watched, "kernel.connection", "dropped") > 0)
        tracked = sum(watched.connections(wire.port).values())
        untracked = _rows(watched, "kernel.connection", "dropped")
        assert 0 < tracked <= 64
        assert 0 <= tracked + untracked - 2 * count <= others
        told = watched.exchanges(wire.port)
        assert sum(told.values()) == 2 * tracked
        assert set(told.values()) == {2}
        assert {one.status for one in told} == {200}
        close(*wire.connect())
        watched.expect_healthy()
        watched.finish()


def _rows(watched: Watched, stage: str, outcome: str) -> int:
    """A row of the ledger, over all its reasons."""
    return sum(n for key, n in watched.ledger().items() if key[:2] == (stage, outcome))


def _opens() -> int:
    """Connections that this network namespace has opened, both ways (RFC 1213: tcpActiveOpens, tcpPassiveOpens)."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    found = dict(zip(names, values, strict=True))
    return int(found["ActiveOpens"]) + int(found["PassiveOpens"])
