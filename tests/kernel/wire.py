"""Connections of which a test holds both ends: nothing happens on them that it does not do itself.

In: nothing. Out: pairs of connected sockets on loopback.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.kernel.watching import ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESET_ON_CLOSE: Final = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, no time


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
def new_wire() -> Iterator[Wire]:
    """A wire that is closed with its block."""
    wire = Wire()
    try:
        yield wire
    finally:
        wire.close()


def close(*ends: socket.socket) -> None:
    """Close them in this order."""
    for end in ends:
        end.close()


def reset(end: socket.socket) -> None:
    """Close with RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.close()


def ask(client: socket.socket, server: socket.socket, path: bytes, times: int) -> None:
    """So many exchanges, one after the other."""
    for _ in range(times):
        client.sendall(b"GET %b HTTP/1.1\r\n\r\n" % path)
        server.recv(4096)
        server.sendall(ANSWER)
        client.recv(4096)
