"""Clients with different habits: raw sockets under full control, curl, h2load, wrk.

In: host and port. Out: what came back, as :class:`Response`, or as counts of :class:`Exchange`.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from tests.support.network import Namespace

_READ_BYTES: Final = 65536
_TIMEOUT_S: Final = 30
_BODILESS: Final = (204, 304)


class Exchange(NamedTuple):
    """What both ends agree on: the truth that telemetry is compared with. Body sizes are of the payload, in bytes."""

    method: str
    path: str
    status: int
    response_body_bytes: int
    request_body_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP/1.1 request; Host is added when it is encoded."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def encode(self, host: bytes = b"127.0.0.1") -> bytes:
        """The message; a Content-Length stands in it when there is a body."""
        return self.head(host) + self.body

    def head(self, host: bytes = b"127.0.0.1") -> bytes:
        """The message up to and with the empty line."""
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), b"Host: " + host]
        lines += [b"%b: %b" % header for header in self.headers]
        if self.body:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def answered(self, status: int, response_body_bytes: int) -> Exchange:
        """The exchange of this request and a response."""
        path = self.target.partition(b"?")[0].decode("latin-1")
        return Exchange(self.method.decode("latin-1"), path, status, response_body_bytes, len(self.body))


@dataclass(frozen=True, slots=True)
class Response:
    """One final response, its body decoded from chunks."""

    status: int
    head: bytes
    body: bytes


class Connection:
    """One TCP connection that speaks HTTP/1.1 by hand."""

    def __init__(self, host: str, port: int) -> None:
        self._host = (f"[{host}]" if ":" in host else host).encode()  # RFC 3986, 3.2.2
        self._kept = bytearray()
        self.socket = socket.create_connection((host, port), timeout=_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def exchange(self, request: Request) -> Response:
        """Send in one write, read the answer."""
        self.socket.sendall(request.encode(self._host))
        return self.read(request.method)

    def pipeline(self, requests: Sequence[Request]) -> list[Response]:
        """Send all in one write, then read all the answers."""
        self.socket.sendall(b"".join(request.encode(self._host) for request in requests))
        return [self.read(request.method) for request in requests]

    def dribble(self, request: Request, *, step: int = 1, pause_s: float = 0.001) -> Response:
        """Send *step* bytes per write with pauses between, read the answer."""
        message = request.encode(self._host)
        for start in range(0, len(message), step):
            self.socket.sendall(message[start : start + step])
            time.sleep(pause_s)
        return self.read(request.method)

    def chunked(self, request: Request, chunks: Iterable[bytes], trailers: bytes = b"") -> Response:
        """Send the body in chunks (RFC 9112, 7.1), each with a write of its own, read the answer."""
        headers = (*request.headers, (b"Transfer-Encoding", b"chunked"))
        self.socket.sendall(Request(request.method, request.target, headers).head(self._host))
        for chunk in chunks:
            self.socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.socket.sendall(b"0\r\n" + trailers + b"\r\n")
        return self.read(request.method)

    def expecting(self, request: Request) -> Response:
        """Send the head with ``Expect: 100-continue``, wait for the 100, send the body, read the answer."""
        headers = (*request.headers, (b"Expect", b"100-continue"))
        self.socket.sendall(Request(request.method, request.target, headers, request.body).head(self._host))
        status, _ = self._head()
        if status != 100:  # RFC 9110, 10.1.1: the server may refuse at once
            raise ValueError(f"expected 100 Continue, got {status}")
        self.socket.sendall(request.body)
        return self.read(request.method)

    def read(self, method: bytes) -> Response:
        """The next final response; interim ones (1xx but 101) are skipped."""
        status, head = self._head()
        while 100 <= status < 200 and status != 101:
            status, head = self._head()
        return Response(status, head, self._body(method, status, head))

    def read_exactly(self, size: int) -> bytes:
        """That many bytes; raises EOFError when the connection ends before."""
        while len(self._kept) < size:
            self._receive()
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

    def _body(self, method: bytes, status: int, head: bytes) -> bytes:
        lower = head.lower()
        if method == b"HEAD" or status in _BODILESS or status == 101 or (method == b"CONNECT" and status < 300):
            return b""
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            return b"".join(iter(self._chunk, b""))
        if found := re.search(rb"\r\ncontent-length: *(\d+)\r\n", lower):
            return self.read_exactly(int(found[1]))
        return self._rest()

    def _chunk(self) -> bytes:
        size = int(self._until(b"\r\n").partition(b";")[0], 16)
        if size:
            return self.read_exactly(size + 2)[:-2]
        while self._until(b"\r\n") != b"\r\n":
            continue
        return b""

    def _head(self) -> tuple[int, bytes]:
        head = self._until(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), head

    def _until(self, end: bytes) -> bytes:
        while (at := self._kept.find(end)) < 0:
            self._receive()
        return self.read_exactly(at + len(end))

    def _rest(self) -> bytes:
        while piece := self.socket.recv(_READ_BYTES):
            self._kept += piece
        return self.read_exactly(len(self._kept))

    def _receive(self) -> None:
        piece = self.socket.recv(_READ_BYTES)
        if not piece:
            raise EOFError(f"the connection ended; still unread: {bytes(self._kept[:200])!r}")
        self._kept += piece


def once(host: str, port: int, request: Request) -> Response:
    """One request on a connection of its own, which it asks to close."""
    closing = Request(request.method, request.target, (*request.headers, (b"Connection", b"close")), request.body)
    with Connection(host, port) as connection:
        return connection.exchange(closing)


def curl(url: str, *arguments: str, namespace: Namespace | None = None) -> tuple[int, int]:
    """Status and body size as curl saw them; raises CalledProcessError when curl failed."""
    command = ["curl", "-sS", "-o", "/dev/null", "-m", "30", "-w", "%{http_code} %{size_download}", *arguments, url]
    status, size = _run(command, namespace, timeout_s=60).split()
    return int(status), int(size)


def h2load(url: str, *, requests: int, connections: int, namespace: Namespace | None = None) -> None:
    """Exactly *requests* GETs by h2load over HTTP/1.1; raises ValueError when not all of them succeeded."""
    command = ["h2load", "--h1", "-n", str(requests), "-c", str(connections), "-t", "1", url]
    output = _run(command, namespace, timeout_s=120)
    if f"{requests} succeeded" not in output:
        raise ValueError(output)


def wrk(url: str, *, seconds: int, connections: int, namespace: Namespace | None = None) -> int:
    """Requests that wrk finished at full speed. A few more were under way when it stopped: not for exact counts."""
    command = ["wrk", "-d", f"{seconds}s", "-c", str(connections), "-t", "1", url]
    output = _run(command, namespace, timeout_s=seconds + 30)
    found = re.search(r"(\d+) requests in", output)
    if not found:
        raise ValueError(output)
    return int(found[1])


def _run(command: list[str], namespace: Namespace | None, timeout_s: float) -> str:
    full = namespace.command(command) if namespace else command
    return subprocess.run(full, check=True, capture_output=True, text=True, timeout=timeout_s).stdout
