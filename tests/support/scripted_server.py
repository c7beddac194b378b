"""A server on raw sockets that does the same steps to every connection. Usage: scripted_server.py PORT STEPS-AS-JSON.

Steps: ``["head"]`` reads up to the end of a message head · ``["read", n]`` reads n bytes · ``["send", text]`` writes
the text (latin-1) in one call · ``["dribble", text, s]`` writes it byte by byte, s seconds apart · ``["sleep", s]`` ·
``["echo"]`` returns what comes until the end · ``["repeat", n, steps]`` · ``["drain"]`` reads until the end ·
``["reset"]`` closes with RST. After the last step the connection is closed.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_HEAD_END = b"\r\n\r\n"


class _Closed(Exception):  # noqa: N818  # not an error: the peer went
    """The peer closed the connection while a step waited for bytes."""


def _read_head(peer: socket.socket, kept: bytearray) -> None:
    while (end := kept.find(_HEAD_END)) < 0:
        _receive(peer, kept)
    del kept[: end + len(_HEAD_END)]


def _read(peer: socket.socket, kept: bytearray, size: int) -> None:
    while len(kept) < size:
        _receive(peer, kept)
    del kept[:size]


def _receive(peer: socket.socket, kept: bytearray) -> None:
    piece = peer.recv(65536)
    if not piece:
        raise _Closed
    kept += piece


def _echo(peer: socket.socket, kept: bytearray) -> None:
    while True:
        peer.sendall(bytes(kept))
        kept.clear()
        _receive(peer, kept)


def _drain(peer: socket.socket, kept: bytearray) -> None:
    while True:
        kept.clear()
        _receive(peer, kept)


def _reset(peer: socket.socket, _: bytearray) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise _Closed


def _dribble(peer: socket.socket, _: bytearray, text: str, pause_s: float) -> None:
    for number in text.encode("latin-1"):
        peer.sendall(bytes([number]))
        time.sleep(pause_s)


def _send(peer: socket.socket, _: bytearray, text: str) -> None:
    peer.sendall(text.encode("latin-1"))


def _sleep(_: socket.socket, __: bytearray, pause_s: float) -> None:
    time.sleep(pause_s)


def _repeat(peer: socket.socket, kept: bytearray, times: int, steps: list[list[Any]]) -> None:
    for _ in range(times):
        _play(peer, kept, steps)


def _play(peer: socket.socket, kept: bytearray, steps: list[list[Any]]) -> None:
    for name, *arguments in steps:
        _STEPS[name](peer, kept, *arguments)


_STEPS: Final[dict[str, Callable[..., None]]] = {
    "head": _read_head,
    "read": _read,
    "send": _send,
    "dribble": _dribble,
    "sleep": _sleep,
    "echo": _echo,
    "drain": _drain,
    "reset": _reset,
    "repeat": _repeat,
}


def _serve(peer: socket.socket, steps: list[list[Any]]) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer:
        try:
            _play(peer, bytearray(), steps)
        except (_Closed, OSError):
            return


def main() -> None:
    """Serve until killed, one thread per connection."""
    steps = json.loads(sys.argv[2])
    with socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=1024) as listener:  # noqa: S104
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_serve, args=(peer, steps), daemon=True).start()


if __name__ == "__main__":
    main()
