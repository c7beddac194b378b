"""Traffic that no well-meaning client sends: scans, floods of short connections, noise, heads without measure or end.

In: host and port. Out: nothing but the load; bounded in count and size.
"""

from __future__ import annotations

import random
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.clients import Connection, Exchange, Request, once

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: RST, and no port in TIME_WAIT


def scan(host: str, port: int, connects: int) -> None:
    """Connect and reset at once, without a byte, so many times."""
    for _ in range(connects):
        with socket.create_connection((host, port), timeout=5) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def refused(host: str, port: int, connects: int) -> int:
    """Connect to where nobody listens; the number of refusals."""
    count = 0
    for _ in range(connects):
        with socket.socket() as probe:
            count += probe.connect_ex((host, port)) != 0
    return count


def short_connections(host: str, port: int, requests: int, target: bytes = b"/api/short") -> Exchange:
    """One small GET per connection, so many times; the exchange that each of them was."""
    request = Request(b"GET", target)
    sizes = {len(once(host, port, request).body) for _ in range(requests)}
    (size,) = sizes
    return request.answered(200, size)


def noise(host: str, port: int, *, size: int, seed: int = 23) -> None:
    """Random bytes, then the end; whatever comes back is not read."""
    with socket.create_connection((host, port), timeout=5) as peer:
        try:
            peer.sendall(random.Random(seed).randbytes(size))  # noqa: S311  # repeatable, not secret
        except OSError:  # the server has heard enough
            return


def long_request_line(host: str, port: int, *, size: int) -> int:
    """A GET whose request line has that many bytes; the status of the answer."""
    target = b"/api/" + b"x" * (size - len(b"GET /api/ HTTP/1.1"))
    return once(host, port, Request(b"GET", target)).status


def big_head(host: str, port: int, *, size: int) -> None:
    """A request with about that many bytes of headers; a server may well hang up in the middle of it."""
    fields = tuple((b"X-Field-%d" % number, b"v" * 1000) for number in range(size // 1024))
    with Connection(host, port) as connection:
        try:
            connection.exchange(Request(b"GET", b"/api/big", fields))
        except (OSError, EOFError):
            return


@contextmanager
def endless_request(host: str, port: int) -> Iterator[socket.socket]:
    """A connection whose request has begun and does not end while the block lasts."""
    with socket.create_connection((host, port), timeout=5) as peer:
        peer.sendall(b"GET /api/endless HTTP/1.1\r\nHost: here\r\nX-More: ")
        yield peer
