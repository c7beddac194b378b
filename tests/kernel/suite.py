"""The kernel suite: known traffic through the real programs, on whatever kernel this runs.

In: which probes are switched off. Out: what the kernel side and the flows stage made of the traffic, as plain values.
It imports nothing that a guest has not: the product and the standard library.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_ebpf.clock import Clock
from otel_ebpf.flows.intake import Intake
from otel_ebpf.flows.table import FlowTable
from otel_ebpf.kernel import start
from otel_ebpf.kernel.capture import Capture
from otel_ebpf.records import ROLE_NAMES, EdgeKey, FlowRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_ebpf.flows.sinks import FlowDelta
    from otel_ebpf.protocols.exchange import Exchange

_SENDFILE_BYTES: Final = 100_000
_BIG_BYTES: Final = 300_000
_RING_BYTES: Final = 1 << 22
_QUIET_S: Final = 0.6  # the sweep reports a turn that has been quiet for a quarter of a second
KEEP_ALIVE_REQUESTS: Final = 23


@dataclass
class Seen:
    """Sinks of the flows stage that keep everything."""

    exchanges: list[Exchange] = field(default_factory=list)
    opened_flows: list[FlowRecord] = field(default_factory=list)
    failures: list[tuple[FlowRecord, str]] = field(default_factory=list)
    closed_flows: list[FlowRecord] = field(default_factory=list)
    ledger: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def count(self, *_: object) -> bool:
        """Want everything in full."""
        return True

    @staticmethod
    def _ours(edge: bytes) -> bool:
        """Tell whether it is this process that talks: the machine may do other things meanwhile."""
        return EdgeKey.unpack(edge).tgid == os.getpid()

    def detail(self, exchange: Exchange) -> None:
        """Keep an ordinary exchange."""
        if self._ours(exchange.edge):
            self.exchanges.append(exchange)

    def exchange(self, exchange: Exchange) -> None:
        """Keep any other exchange."""
        if self._ours(exchange.edge):
            self.exchanges.append(exchange)

    def opened(self, flow: FlowRecord) -> None:
        """Keep a connection that was established."""
        if self._ours(flow.edge):
            self.opened_flows.append(flow)

    def failed(self, flow: FlowRecord, error_type: str) -> None:
        """Keep a connection that was not."""
        if self._ours(flow.edge):
            self.failures.append((flow, error_type))

    def traffic(self, flow: FlowRecord, delta: FlowDelta) -> None:
        """Totals come with the end of the flow."""

    def closed(self, flow: FlowRecord, duration_ns: int) -> None:  # noqa: ARG002 - the sink's signature
        """Keep the last record of a connection."""
        if self._ours(flow.edge):
            self.closed_flows.append(flow)

    def add(self, stage: str, outcome: str, reason: str = "", n: int = 1) -> None:
        """Keep a row of the ledger."""
        self.ledger[stage, outcome, reason] += n


class Server:
    """An HTTP/1.1 server whose paths are habits of writing; one thread per connection."""

    def __init__(self, family: int, address: str) -> None:
        self._listener = socket.create_server((address, 0), family=socket.AddressFamily(family))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._file.write(b"f" * _SENDFILE_BYTES)
        self._file.flush()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        with connection, suppress(OSError):
            while True:
                while b"\r\n\r\n" not in pending:
                    if not (part := connection.recv(1024)):
                        return
                    pending += part
                head, _, pending = pending.partition(b"\r\n\r\n")
                pending = self._body(connection, head, pending)
                self._answer(connection, *head.split(b" ")[:2])

    @staticmethod
    def _body(connection: socket.socket, head: bytes, pending: bytes) -> bytes:
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        while len(pending) < length:
            pending += connection.recv(4096)
        return pending[length:]

    def _answer(self, connection: socket.socket, method: bytes, path: bytes) -> None:
        if method == b"HEAD":
            connection.sendall(_head(200, 11))
        elif path == b"/split":
            connection.sendall(_head(200, 5))
            connection.sendall(b"hello")
        elif path == b"/vector":
            connection.sendmsg([_head(200, 5), b"", b"he", b"llo"])
        elif path == b"/sendfile":
            connection.sendall(_head(200, _SENDFILE_BYTES))
            sent = 0
            while sent < _SENDFILE_BYTES:
                sent += os.sendfile(connection.fileno(), self._file.fileno(), sent, _SENDFILE_BYTES - sent)
        elif path == b"/big":
            connection.sendall(_head(200, _BIG_BYTES) + b"b" * _BIG_BYTES)
        elif path == b"/none":
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path == b"/chunked":
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in (b"5\r\nhello\r\n", b"0\r\n\r\n"):
                connection.sendall(part)
        else:
            status = int(path[1:4]) if path[1:4].isdigit() else 200
            connection.sendall(_head(status, 11) + b"hello world")


def _head(status: int, length: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, length)


class Client:
    """A connection that reads its responses to their end."""

    def __init__(self, family: int, address: tuple[str, int]) -> None:
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(address)

    def request(self, path: str, method: str = "GET", body: bytes = b"", *, step: int = 0) -> None:
        """Send one request, in pieces of *step* bytes if that is not 0, and read its response."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        raw = f"{method} {path} HTTP/1.1\r\nHost: suite\r\n{length}\r\n".encode() + body
        for at in range(0, len(raw), step or len(raw)):
            self.socket.sendall(raw[at : at + (step or len(raw))])
        self.read(head_only=method == "HEAD")

    def read(self, *, head_only: bool = False) -> None:
        """Read one response: until its head, its Content-Length or its last chunk is there."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        if head_only:
            return
        if b"chunked" in head:
            while not body.endswith(b"0\r\n\r\n"):
                body += self.socket.recv(65536)
            return
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        while len(body) < length:
            body += self.socket.recv(65536)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


class Suite:
    """One run: servers, the loaded programs, the traffic, and what was made of it."""

    def __init__(self, probes_off: tuple[str, ...]) -> None:
        self._stack = ExitStack()
        self.seen = Seen()
        self._server = self._serve(socket.AF_INET, "127.0.0.1")
        self._server6 = self._serve(socket.AF_INET6, "::1")
        self._older = Client(socket.AF_INET, self._server.address)
        self._older.request("/before")
        clock = Clock()
        loaded = self._stack.enter_context(start.load(_RING_BYTES, 4096, probes_off, 0))
        self.report = {row.hook: row.chosen for row in loaded.report}
        self._capture = Capture(loaded, _RING_BYTES, clock)
        self._stack.callback(self._capture.close)
        self._capture.discover()
        self._table = FlowTable(self.seen, self.seen)
        self._intake = Intake(self.seen, self._table, self.seen)

    def _serve(self, family: int, address: str) -> Server:
        server = Server(family, address)
        self._stack.callback(server.close)
        return server

    def drain(self, quiet_s: float = _QUIET_S) -> None:
        """Take everything that the kernel has, after a while of silence."""
        time.sleep(quiet_s)
        for _ in range(2):  # the sweep of the first look is read by the second at the latest
            batch = self._capture.take(with_flows=True)
            self._table.take_rows(batch.flows or b"")
            self._intake.take(batch.ring, batch.time_ns)
            self.counters = batch.counters or ()

    def traffic(self) -> None:
        """All of the known traffic, one kind after the other."""
        steps: tuple[Callable[[], None], ...] = (
            self._keep_alive, self._habits, self._bodies, self._slow_writer, self._pipelined,
            self._pipelined_behind_a_body, self._version_6, self._older_connection, self._refused, self._reset,
        )  # fmt: skip
        for step in steps:
            step()
        self.drain()

    def _client(self) -> Client:
        return Client(socket.AF_INET, self._server.address)

    def _keep_alive(self) -> None:
        client = self._client()
        for number in range(KEEP_ALIVE_REQUESTS):
            client.request(f"/keep/{number}")
        client.close()

    def _habits(self) -> None:
        client = self._client()
        for path in ("/split", "/vector", "/sendfile", "/big", "/none", "/chunked", "/404", "/503"):
            client.request(path)
        client.request("/head", "HEAD")
        client.close()

    def _bodies(self) -> None:
        client = self._client()
        client.request("/post", "POST", b"p" * 2000)
        client.request("/put", "PUT", b"GET / HTTP/1.1\r\n\r\n")  # a body that looks like a message is a body
        client.request("/other", "PURGE")
        client.close()

    def _slow_writer(self) -> None:
        client = self._client()
        client.request("/bytes", step=1)
        client.request("/long?" + "q" * 3000)
        client.close()

    def _pipelined(self) -> None:
        client = self._client()
        client.socket.sendall(b"".join(b"GET /pipe/%d HTTP/1.1\r\nHost: suite\r\n\r\n" % n for n in range(16)))
        time.sleep(0.3)  # all responses are there: one read takes them
        client.socket.recv(65536)
        client.close()

    def _pipelined_behind_a_body(self) -> None:
        client = self._client()
        requests = b"PUT /behind/1 HTTP/1.1\r\nHost: suite\r\nContent-Length: 300\r\n\r\n" + b"p" * 300
        client.socket.sendall(requests + b"GET /behind/2 HTTP/1.1\r\nHost: suite\r\n\r\n")
        time.sleep(0.3)
        client.socket.recv(65536)
        client.close()

    def _version_6(self) -> None:
        client = Client(socket.AF_INET6, self._server6.address)
        client.request("/six")
        client.close()

    def _older_connection(self) -> None:
        self._older.request("/older/1")
        self._older.request("/older/2")

    def _refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass

    def _reset(self) -> None:
        client = self._client()
        client.request("/reset")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()

    def result(self) -> dict[str, Any]:
        """Return what was seen, in values that JSON can carry."""
        return {
            "report": self.report,
            "exchanges": sorted(_told(exchange) for exchange in self.seen.exchanges),
            "failures": [error for _, error in self.seen.failures],
            "families": sorted({EdgeKey.unpack(flow.edge).network_type for flow in self.seen.opened_flows}),
            "older": sorted(_role(flow) for flow in self.seen.opened_flows if flow.flags & 1),
            "handshakes": sum(flow.handshake_ns > 0 for flow in self.seen.closed_flows),
            "accepts": sum(flow.accepted_ns > 0 for flow in self.seen.closed_flows if _role(flow) == "server"),
            "resets": sorted(flow.flags & 0xC for flow in self.seen.closed_flows if flow.flags & 0xC),
            "totals": sorted(_totals(flow) for flow in self.seen.closed_flows),
            "counters": list(self.counters),
            "ledger": {"/".join(key): n for key, n in sorted(self.seen.ledger.items())},
        }

    def close(self) -> None:
        """Detach everything and stop the servers."""
        self._older.close()
        self._stack.close()


def _role(flow: FlowRecord) -> str:
    return ROLE_NAMES[EdgeKey.unpack(flow.edge).role]


def _totals(flow: FlowRecord) -> list[Any]:
    return [_role(flow), flow.bytes_sent, flow.bytes_received]


def _told(exchange: Exchange) -> list[Any]:
    return [
        ROLE_NAMES[EdgeKey.unpack(exchange.edge).role],
        exchange.method.decode(),
        exchange.target.decode()[:40],
        exchange.status or 0,
        -1 if exchange.request_body_bytes is None else exchange.request_body_bytes,
        -1 if exchange.response_body_bytes is None else exchange.response_body_bytes,
        exchange.error_type or "",
        ",".join(exchange.missing),
    ]


def run(probes_off: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the whole suite once, and return what was seen."""
    suite = Suite(probes_off)
    try:
        suite.traffic()
        return suite.result()
    finally:
        suite.close()
