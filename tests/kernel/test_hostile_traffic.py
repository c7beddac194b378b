"""Traffic that no well-meaning program makes: every kind is counted for what it was, and the agent stays well."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.kernel.watching import ANSWER, RESIDENT_BYTES, Told, Watched, both, opened, watching
from tests.support.clients import Connection, Request, once
from tests.support.network import Namespace
from tests.support.processes import Child, free_port
from tests.support.servers import scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_RESET_ON_CLOSE: Final = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, no time
_SHOWN_BYTES: Final = 8192  # of a path, MOST_TEXT_BYTES


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One agent for all tests that look at single exchanges: at the end it has seen them all, and its ledger closes."""
    with watching(tmp_path_factory.mktemp("agent")) as found:
        yield found
        found.finish()


class Wire:
    """A listener whose connections are made one at a time, with both ends in the test's own hands."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.settimeout(5)
        self.port: int = self._listener.getsockname()[1]

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client's and a server's end."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        server, _ = self._listener.accept()
        for end in (client, server):
            end.settimeout(5)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, server

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


@contextmanager
def _wire() -> Iterator[Wire]:
    wire = Wire()
    try:
        yield wire
    finally:
        wire.close()


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.close()


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_split_byte_by_byte(watched: Watched, tmp_path: Path) -> None:
    """A request and its response, each written one byte at a time, are one exchange with the right sizes."""
    body = b"x=1&y=2" * 10
    steps = [["head"], ["read", len(body)], ["dribble", ANSWER, 0.0005], ["drain"]]
    with scripted(tmp_path, steps) as server:
        with Connection(server.host, server.port) as connection:
            assert connection.dribble(Request(b"POST", b"/bytes", (), body), pause_s=0.0005).body == b"ok"
        watched.expect(server.port, both("POST", "/bytes", 200, 70, 2), opened(1))
    watched.expect_healthy()


def test_request_line_of_64_kib(watched: Watched, tmp_path: Path) -> None:
    """A request line of 64 KiB is one exchange; its path is told as far as attributes go, and that it was cut."""
    target = b"/" + b"x" * (65536 - len(b"GET / HTTP/1.1"))
    with scripted(tmp_path, [["head"], ["send", ANSWER], ["drain"]]) as server:
        assert once(server.host, server.port, Request(b"GET", target)).status == 200
        told = both("GET", "/" + "x" * (_SHOWN_BYTES - 1), 200, None, 2, None, ("request_head", "body_size", "url.path"))
        watched.expect(server.port, told, opened(1))
    watched.expect_healthy()


def test_headers_of_1_mib(watched: Watched, tmp_path: Path) -> None:
    """A head of 1 MiB is one exchange, of which the agent says that it did not see all."""
    fields = tuple((b"X-Field-%d" % number, b"v" * 1000) for number in range(1024))
    with scripted(tmp_path, [["head"], ["send", ANSWER], ["drain"]]) as server:
        assert once(server.host, server.port, Request(b"GET", b"/big", fields)).status == 200
        watched.expect(server.port, both("GET", "/big", 200, None, 2, None, ("request_head", "body_size")), opened(1))
    watched.expect_healthy()


def test_response_head_of_1_mib(watched: Watched, tmp_path: Path) -> None:
    """A response whose head is 1 MiB has its status, and no size that would be wrong."""
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 1000) for n in range(1024))
    with _wire() as wire:
        client, server = wire.connect()
        writer = threading.Thread(target=server.sendall, args=(head + b"Content-Length: 2\r\n\r\nok",))
        client.sendall(b"GET /answer HTTP/1.1\r\n\r\n")
        server.recv(4096)
        writer.start()
        while not client.recv(65536).endswith(b"ok"):
            pass
        writer.join()
        _close(client, server)
        told = both("GET", "/answer", 200, 0, None, None, ("response_head", "body_size", "end"))
        watched.expect(wire.port, told, opened(1))
    watched.expect_healthy()


def test_request_that_never_ends(watched: Watched) -> None:
    """A head that never ends is nothing while it lasts, and one broken exchange when the client goes."""
    with _wire() as wire:
        client, server = wire.connect()
        for part in (b"GET /endless HTTP/1.1\r\nHost: here\r\n", b"X-More: ", b"y" * 5000):
            client.sendall(part)
            server.recv(65536)
        watched.expect_healthy()
        assert watched.exchanges(wire.port) == {}
        _close(client, server)
        told = both("GET", "/endless", None, None, None, "closed", ("request_head", "body_size"))
        watched.expect(wire.port, told, opened(1))


def test_body_that_never_ends(watched: Watched) -> None:
    """A chunked upload without a last chunk is one broken exchange with the bytes that passed."""
    with _wire() as wire:
        client, server = wire.connect()
        client.sendall(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            client.sendall(b"5\r\nhello\r\n")
            server.recv(65536)
        _close(client, server)
        watched.expect(wire.port, both("POST", "/upload", None, 500, None, "closed"), opened(1))


def test_response_without_request(watched: Watched) -> None:
    """A server that answers before it is asked (408 on an idle connection) is told with what was seen."""
    with _wire() as wire:
        client, server = wire.connect()
        server.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.recv(4096)
        _close(server, client)
        missing = ("request_head", "body_size")
        told = {
            Told("client", None, None, 408, None, 0, "408", missing): 1,
            Told("server", None, None, 408, None, 0, None, missing): 1,
        }
        watched.wait(lambda: len(watched.logs(wire.port)) == 2)
        assert watched.exchanges(wire.port) == told
        assert watched.connections(wire.port) == opened(1)
    watched.expect_healthy()


# -- endings ----------------------------------------------------------------------------------------------------------


def test_peer_resets_in_the_middle_of_a_response(watched: Watched) -> None:
    """A response that a reset cuts short is an error of the type reset at both ends, with the bytes that passed."""
    with _wire() as wire:
        client, server = wire.connect()
        client.sendall(b"GET /cut HTTP/1.1\r\n\r\n")
        server.recv(4096)
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
        client.recv(4096)
        _reset(server)
        with suppress(ConnectionResetError):
            client.recv(4096)
        client.close()
        watched.expect(wire.port, both("GET", "/cut", 200, 0, 10, "reset"), opened(1))
        resets = watched.sums("ebpf.tcp.resets", wire.port, "network.io.direction")
        assert resets == {("transmit",): 1, ("receive",): 1}
    watched.expect_healthy()


@pytest.mark.parametrize("victim", ["server", "client"])
def test_process_is_killed_in_the_middle_of_an_exchange(watched: Watched, tmp_path: Path, victim: str) -> None:
    """When either end is killed while the other waits, both are told that the exchange was closed without an answer."""
    port = free_port()
    steps = '[["head"], ["sleep", 30]]' if victim == "server" else '[["head"], ["drain"]]'
    serve = [sys.executable, _REPOSITORY / "tests" / "support" / "scripted_server.py", str(port), steps]
    ask = f"""
import socket
peer = socket.create_connection(("127.0.0.1", {port}))
peer.sendall(b"GET /killed HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n")
print("asked", flush=True)
peer.recv(100)
"""
    with Child(serve, log=tmp_path / "server.log") as server:
        server.wait_listening(port)
        with Child([sys.executable, "-c", ask], log=tmp_path / "client.log") as client:
            client.wait_until(lambda: "asked" in client.output(), "asking")
            time.sleep(0.2)
            killed = server if victim == "server" else client
            killed.send_signal(signal.SIGKILL)
            assert killed.wait(5) == -signal.SIGKILL
            watched.expect(port, both("GET", "/killed", None, 0, None, "closed"), opened(1))
    watched.expect_healthy()


@contextmanager
def _black_hole() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces in which :func:`_swallow` makes one end unreachable without an error."""
    from tests.support.network import veth_pair

    with veth_pair(7) as pair:
        yield pair


def _swallow(here: Namespace, there: Namespace) -> None:
    """From now on frames to the other end carry an address that it drops."""
    here.run(["ip", "neigh", "replace", there.address, "lladdr", "02:00:00:00:00:99", "dev", here.device, "nud", "permanent"])


_TIMING_OUT: Final = """
import socket, sys
TCP_USER_TIMEOUT = 18
peer = socket.socket()
peer.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 600)
try:
    peer.connect((sys.argv[1], int(sys.argv[2])))
    print("connected", flush=True)
    sys.stdin.readline()
    peer.sendall(b"GET /lost HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    peer.recv(100)
except TimeoutError:
    print("timed out", flush=True)
"""


def test_connections_that_time_out(watched: Watched, tmp_path: Path) -> None:
    """A peer that falls silent is timed_out: as a failed connection before the handshake, as an exchange after it."""
    import subprocess

    with _black_hole() as (here, there):
        steps = [["head"], ["send", ANSWER], ["drain"]]
        with scripted(tmp_path, steps, namespace=there) as server:
            command = here.command([sys.executable, "-c", _TIMING_OUT, there.address, str(server.port)])
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == "connected\n"
                _swallow(here, there)
                output, _ = client.communicate("\n", timeout=20)
                assert output == "timed out\n"
            failed = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=True)
            assert failed.stdout == "timed out\n"
            lost = Told("client", "GET", "/lost", None, 0, None, "timed_out")
            watched.wait(lambda: len(watched.logs(server.port)) == 1)
            assert watched.exchanges(server.port) == {lost: 1}
            assert watched.connections(server.port)["client", None] == 1
            assert watched.connections(server.port)["client", "timed_out"] == 1
    watched.expect_healthy()


# -- what is not HTTP -------------------------------------------------------------------------------------------------

_NOISE: Final = """
import random, socket, sys
port, seed, start = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
    peer.sendall(start + random.Random(seed).randbytes(65536))
    peer.shutdown(socket.SHUT_WR)
    while peer.recv(65536): pass
"""


@pytest.mark.parametrize("start", [b"", b"GET \0\xff\xfe", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"EHLO x\r\n"])
def test_binary_noise_on_port_80(watched: Watched, tmp_path: Path, start: bytes) -> None:
    """Bytes that are no HTTP, also where they begin like it, are a connection with its bytes and no exchange."""
    name = f"oebpf{os.getpid()}-0a"
    host = Namespace(name, "127.0.0.1", "::1", "lo")
    import subprocess

    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        host.run(["ip", "link", "set", "lo", "up"])
        port = 80 if not start else 8000 + start[0]
        serve = [sys.executable, _REPOSITORY / "tests" / "support" / "scripted_server.py", str(port), '[["echo"]]']
        with Child(serve, log=tmp_path / "server.log", namespace=host) as server:
            server.wait_listening(port)
            before = watched.connections(port).get(("client", None), 0)
            host.run([sys.executable, "-c", _NOISE, str(port), "23", start.hex()])
            watched.wait(lambda: watched.connections(port).get(("client", None), 0) > before)
        size = 65536 + len(start)
        assert watched.exchanges(port) == {}
        assert watched.connections(port) == opened(1)
        moved = watched.sums("ebpf.network.io", port, "ebpf.role", "network.io.direction")
        assert moved == {(role, way): size for role in ("client", "server") for way in ("transmit", "receive")}
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=10)
    watched.expect_healthy()


def test_hostile_bytes_become_valid_text(watched: Watched, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in path, header, method and names of processes arrive as U+FFFD, and nothing breaks."""
    port = free_port()
    python = tmp_path.joinpath(os.fsdecode(b'ev\xffil"\n\x1b[31m'))
    shutil.copy(os.path.realpath(sys.executable), python)
    ask = f"""
import ctypes, socket
ctypes.CDLL(None).prctl(15, b'\\xfe\\xff"\\n\\x1b[31m', 0, 0, 0)
peer = socket.create_connection(("127.0.0.1", {port}))
for line in (b'GET /\\xff\\xfe"\\\\\\x1b[31m?q=\\x00\\xc3 HTTP/1.1', b"G\\x45T /%00%ff%0a<script> HTTP/1.1",
             b"B!#$%&'*+-.^_`|~ /method HTTP/1.1"):
    peer.sendall(line + b'\\r\\nUser-Agent: \\xff\\x00"\\x07\\r\\nHost: \\xf0\\x9f\\r\\n\\r\\n')
    print(peer.recv(100))
"""
    with scripted(tmp_path / "server", [["repeat", 3, [["head"], ["send", ANSWER.decode()]]], ["drain"]]) as server:
        ask = ask.replace(str(port), str(server.port))
        with Child([python, "-S", "-c", ask], log=tmp_path / "client.log") as client:
            assert client.wait(10) == 0, client.output()
        paths = ('/\ufffd\ufffd"\\\x1b[31m', "/%00%ff%0a<script>", "/method")
        methods = ("GET", "GET", "B!#$%&'*+-.^_`|~")
        told = sum((both(m, p, 200, 0, 2) for m, p in zip(methods, paths, strict=True)), start=both("", "", 0, 0, 0))
        watched.expect(server.port, told - both("", "", 0, 0, 0), opened(1))
        logs = watched.logs(server.port)
        assert {log.attributes["user_agent.original"] for log in logs} == {'\ufffd\0"\x07'}
        names = {log.resource["process.executable.name"] for log in logs if log.attributes["ebpf.role"] == "client"}
        assert len(names) == 1
    watched.expect_healthy()


# -- two at once ------------------------------------------------------------------------------------------------------


def test_two_threads_on_one_socket(watched: Watched) -> None:
    """Threads that send and receive on one socket at once: no exchange is told that never was, and none twice."""
    count = 300
    with _wire() as wire:
        client, server = wire.connect()

        def answer() -> None:
            kept = b""
            for _ in range(2 * count):
                while b"\r\n\r\n" not in kept:
                    kept += server.recv(65536)
                kept = kept.partition(b"\r\n\r\n")[2]
                server.sendall(ANSWER)

        def ask(name: str) -> None:
            for number in range(count):
                client.sendall(f"GET /{name}?{number} HTTP/1.1\r\n\r\n".encode())

        def read() -> None:
            got = 0
            while got < 2 * count * len(ANSWER):
                got += len(client.recv(4096))

        threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
        threads += [threading.Thread(target=run) for run in (answer, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        _close(client, server)
        watched.wait(lambda: watched.connections(wire.port) == opened(1))
        time.sleep(1)  # records wait so long for others
        seen = [(log.attributes["ebpf.role"], log.attributes.get("url.path"), log.attributes.get("url.query"),
                 log.attributes.get("http.response.status_code")) for log in watched.logs(wire.port)]
        possible = {
            (role, f"/{name}", str(number), 200)
            for role in ("client", "server") for name in ("one", "two") for number in range(count)
        }
        assert len(seen) == len(set(seen))
        assert set(seen) <= possible
    watched.expect_healthy()


# -- floods -----------------------------------------------------------------------------------------------------------

# Room for a second of a flood: a test that is alone on a machine with one processor may keep the agent from it that long.
_COUNTED_ONLY: Final = {
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_EBPF_RING_SIZE": "16777216",
}


def test_port_scan(tmp_path: Path) -> None:
    """10,000 connections without a byte, and 1,000 to where nobody listens, are counted exactly; nothing is exchanged."""
    with watching(tmp_path, _COUNTED_ONLY) as watched, _wire() as wire:
        for _ in range(10_000):
            client, server = wire.connect()
            _reset(client)
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
    with watching(tmp_path, _COUNTED_ONLY) as watched, _wire() as wire:
        for _ in range(20_000):
            client, server = wire.connect()
            client.sendall(b"GET /short HTTP/1.1\r\nConnection: close\r\n\r\n")
            server.recv(4096)
            server.sendall(ANSWER)
            client.recv(4096)
            _close(server, client)
        watched.wait(lambda: watched.connections(wire.port) == opened(20_000))
        assert watched.connections(wire.port) == opened(20_000)
        assert watched.sums("http.server.request.duration", wire.port, "http.route") == {("/short",): 20_000}
        assert watched.sums("http.client.request.duration", wire.port, "url.template") == {("/short",): 20_000}
        assert watched.sums("ebpf.tcp.connections.active", wire.port) in ({}, {(): 0})
        _expect_still_counting(watched)


def test_50_000_distinct_paths(tmp_path: Path) -> None:
    """A service that is asked for 50,000 distinct words has 100 routes and one for the rest; every request is counted."""
    with watching(tmp_path, _COUNTED_ONLY) as watched, _wire() as wire:
        _ask_for_words(wire, 50_000)
        routes = _routes(watched, wire, 50_000)
        assert len(routes) <= 100 + 2
        assert sum(routes.values()) == 50_000
        _expect_still_counting(watched, "/*")


def test_series_beyond_the_limit_are_one(tmp_path: Path) -> None:
    """Beyond the limit of series everything is counted in the overflow series, and how many were refused is told."""
    limits = {"OTEL_EBPF_ROUTE_LIMIT": "10000", "OTEL_EBPF_CARDINALITY_LIMIT": "100"}
    with watching(tmp_path, {**_COUNTED_ONLY, **limits}) as watched, _wire() as wire:
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
    _close(client, server)


def _expect_still_counting(watched: Watched, route: str = "/health") -> None:
    """Assert that an ordinary exchange is counted under *route*, memory is bounded, and the ledger closes."""
    with _wire() as wire:
        client, server = wire.connect()
        client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        server.recv(4096)
        server.sendall(ANSWER)
        client.recv(4096)
        _close(client, server)
        watched.wait(lambda: bool(watched.sums("http.client.request.duration", wire.port)))
        assert watched.sums("http.server.request.duration", wire.port, "http.route") == {(route,): 1}
        assert watched.sums("http.client.request.duration", wire.port, "url.template") == {(route,): 1}
    assert watched.agent.resident_peak_bytes() < RESIDENT_BYTES
    watched.finish()


# -- bounds of the kernel side ----------------------------------------------------------------------------------------


def test_ring_that_is_too_small(tmp_path: Path) -> None:
    """While nobody reads a ring of 64 KiB it fills: what was sent is what is told and what the ledger says was lost."""
    count = 1_000
    settings = {**_COUNTED_ONLY, "OTEL_EBPF_RING_SIZE": "65536"}
    with watching(tmp_path, settings) as watched, _wire() as wire:
        client, server = wire.connect()
        watched.wait_for_totals()
        before = watched.ledger()
        watched.agent.child.send_signal(signal.SIGSTOP)
        resident = watched.agent.resident_bytes()
        try:
            _ask(client, server, b"/burst", count)
        finally:
            watched.agent.child.send_signal(signal.SIGCONT)
        watched.wait(lambda: _gained(watched, before, "kernel.turn", "seen") >= 2 * count)
        _ask(client, server, b"/after", 10)
        _close(client, server)
        watched.wait(lambda: watched.connections(wire.port) == opened(1))
        watched.wait_for_totals()
        told = sum(watched.sums("http.server.request.duration", wire.port, "http.route").values())
        told += sum(watched.sums("http.client.request.duration", wire.port, "url.template").values())
        lost = _gained(watched, before, "kernel.turn", "dropped")
        others = _gained(watched, before, "kernel.turn", "seen") - 2 * (count + 10)
        assert lost > count
        assert 0 <= told + lost - 2 * (count + 10) <= others
        assert watched.sums("http.server.request.duration", wire.port, "http.route")["/after",] == 10
        assert watched.connections(wire.port) == opened(1)
        assert watched.agent.resident_bytes() < resident + (16 << 20)
        _expect_still_counting(watched)


def test_more_connections_than_the_map_holds(tmp_path: Path) -> None:
    """Of 200 connections at once with room for 64 ends, each end is either told rightly or counted as not tracked."""
    count = 200
    settings = {"OTEL_EBPF_MAX_FLOWS": "64"}
    with watching(tmp_path, settings) as watched, _wire() as wire:
        opens = _opens()
        ends = [wire.connect() for _ in range(count)]
        for number, (client, server) in enumerate(ends):
            _ask(client, server, b"/held/%d" % number, 2)
        others = _opens() - opens - 2 * count
        for client, server in ends:
            _close(client, server)
        watched.wait(lambda: _gained(watched, {}, "kernel.connection", "dropped") > 0)
        tracked = sum(watched.connections(wire.port).values())
        untracked = _gained(watched, {}, "kernel.connection", "dropped")
        assert 0 < tracked <= 64
        assert 0 <= tracked + untracked - 2 * count <= others
        told = watched.exchanges(wire.port)
        assert sum(told.values()) == 2 * tracked
        assert set(told.values()) == {2}
        assert {one.status for one in told} == {200}
        _close(*wire.connect())
        watched.expect_healthy()
        watched.finish()


def _ask(client: socket.socket, server: socket.socket, path: bytes, times: int) -> None:
    for _ in range(times):
        client.sendall(b"GET %b HTTP/1.1\r\n\r\n" % path)
        server.recv(4096)
        server.sendall(ANSWER)
        client.recv(4096)


def _gained(watched: Watched, before: dict[tuple[str, str, str], int], stage: str, outcome: str) -> int:
    """How much a row of the ledger, over all its reasons, has gained."""
    now = watched.ledger()
    return sum(n - before.get(key, 0) for key, n in now.items() if key[:2] == (stage, outcome))


def _opens() -> int:
    """Connections that this network namespace has opened, both ways (RFC 1213: tcpActiveOpens, tcpPassiveOpens)."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:"))
    found = dict(zip(names, values, strict=True))
    return int(found["ActiveOpens"]) + int(found["PassiveOpens"])
