"""Traffic that no well-meaning program makes: every kind is counted for what it was, and the agent stays well."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.kernel.watching import ANSWER, Told, Watched, both, opened, watching
from tests.kernel.wire import close, new_wire, reset
from tests.support.clients import Connection, Request, once
from tests.support.network import Namespace, veth_pair
from tests.support.processes import Child, free_port
from tests.support.servers import scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_SHOWN_BYTES: Final = 8192  # of a path, MOST_TEXT_BYTES


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One agent for all tests that look at single exchanges: at the end it has seen them all, and its ledger closes."""
    with watching(tmp_path_factory.mktemp("agent")) as found:
        yield found
        found.finish()


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_split_byte_by_byte(watched: Watched, tmp_path: Path) -> None:
    """A request and its response, each written one byte at a time, are one exchange with the right sizes."""
    body = b"x=1&y=2" * 10
    steps: list[list[Any]] = [["head"], ["read", len(body)], ["dribble", ANSWER, 0.0005], ["drain"]]
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
        missing = ("request_head", "body_size", "url.path")
        told = both("GET", "/" + "x" * (_SHOWN_BYTES - 1), 200, None, 2, None, missing)
        watched.expect(server.port, told, opened(1))
    watched.expect_healthy()


def test_headers_of_1_mib(watched: Watched, tmp_path: Path) -> None:
    """A head of 1 MiB is one exchange, of which the agent says that it did not see all."""
    fields = tuple((b"X-Field-%d" % number, b"v" * 1000) for number in range(1024))
    with scripted(tmp_path, [["head"], ["send", ANSWER], ["drain"]]) as server:
        assert once(server.host, server.port, Request(b"GET", b"/big", fields)).status == 200
        watched.expect(server.port, both("GET", "/big", 200, None, 2, None, ("request_head", "body_size")), opened(1))
    watched.expect_healthy()


def test_response_head_of_1_mib(watched: Watched) -> None:
    """A response whose head is 1 MiB has its status, and no size that would be wrong."""
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 1000) for n in range(1024))
    with new_wire() as wire:
        client, server = wire.connect()
        writer = threading.Thread(target=server.sendall, args=(head + b"Content-Length: 2\r\n\r\nok",))
        client.sendall(b"GET /answer HTTP/1.1\r\n\r\n")
        server.recv(4096)
        writer.start()
        while not client.recv(65536).endswith(b"ok"):
            pass
        writer.join()
        close(client, server)
        told = both("GET", "/answer", 200, 0, None, None, ("response_head", "body_size", "end"))
        watched.expect(wire.port, told, opened(1))
    watched.expect_healthy()


def test_request_that_never_ends(watched: Watched) -> None:
    """A head that never ends is nothing while it lasts, and one broken exchange when the client goes."""
    with new_wire() as wire:
        client, server = wire.connect()
        for part in (b"GET /endless HTTP/1.1\r\nHost: here\r\n", b"X-More: ", b"y" * 5000):
            client.sendall(part)
            server.recv(65536)
        watched.expect_healthy()
        assert watched.exchanges(wire.port) == {}
        close(client, server)
        told = both("GET", "/endless", None, None, None, "closed", ("request_head", "body_size"))
        watched.expect(wire.port, told, opened(1))


def test_body_that_never_ends(watched: Watched) -> None:
    """A chunked upload without a last chunk is one broken exchange with the bytes that passed."""
    with new_wire() as wire:
        client, server = wire.connect()
        client.sendall(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            client.sendall(b"5\r\nhello\r\n")
            server.recv(65536)
        close(client, server)
        watched.expect(wire.port, both("POST", "/upload", None, 500, None, "closed"), opened(1))


def test_response_without_request(watched: Watched) -> None:
    """A server that answers before it is asked (408 on an idle connection) is told with what was seen."""
    with new_wire() as wire:
        client, server = wire.connect()
        server.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.recv(4096)
        close(server, client)
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
    with new_wire() as wire:
        client, server = wire.connect()
        client.sendall(b"GET /cut HTTP/1.1\r\n\r\n")
        server.recv(4096)
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
        client.recv(4096)
        reset(server)
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
    serve: list[str | Path] = [
        sys.executable,
        _REPOSITORY / "tests" / "support" / "scripted_server.py",
        str(port),
        steps,
    ]
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


def _swallow(here: Namespace, there: Namespace) -> None:
    """From now on frames to the other end carry an address that it drops."""
    wrong = f"ip neigh replace {there.address} lladdr 02:00:00:00:00:99 dev {here.device} nud permanent"
    here.run(wrong.split())


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
    with veth_pair(7) as (here, there):
        steps: list[list[Any]] = [["head"], ["send", ANSWER], ["drain"]]
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


_STARTS: Final = {
    "noise": b"",
    "a method": b"GET \0\xff\xfe",
    "TLS": b"\x16\x03\x01",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SMTP": b"EHLO x\r\n",
}


@pytest.mark.parametrize("start", _STARTS.values(), ids=_STARTS)
def test_binary_noise_on_port_80(watched: Watched, tmp_path: Path, start: bytes) -> None:
    """Bytes that are no HTTP, also where they begin like it, are a connection with its bytes and no exchange."""
    name = f"oebpf{os.getpid()}-0a"
    host = Namespace(name, "127.0.0.1", "::1", "lo")
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
    try:
        host.run(["ip", "link", "set", "lo", "up"])
        port = 80 if not start else 8000 + start[0]
        serve: list[str | Path] = [
            sys.executable,
            _REPOSITORY / "tests" / "support" / "scripted_server.py",
            str(port),
            '[["echo"]]',
        ]
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
    with new_wire() as wire:
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
        close(client, server)
        watched.wait(lambda: watched.connections(wire.port) == opened(1))
        time.sleep(1)  # records wait so long for others
        seen = [
            (
                log.attributes["ebpf.role"],
                log.attributes.get("url.path"),
                log.attributes.get("url.query"),
                log.attributes.get("http.response.status_code"),
            )
            for log in watched.logs(wire.port)
        ]
        possible = {
            (role, f"/{name}", str(number), 200)
            for role in ("client", "server")
            for name in ("one", "two")
            for number in range(count)
        }
        assert len(seen) == len(set(seen))
        assert set(seen) <= possible
    watched.expect_healthy()
