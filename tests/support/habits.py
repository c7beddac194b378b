"""Habits of real servers and clients, as cases: traffic, and the exchanges that it is.

In: running servers. Out: what both ends of each connection must be told to have exchanged.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support import servers
from tests.support.clients import Connection, Exchange, Request, curl, once
from tests.support.servers import API_BODY, FILE_TIME

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from tests.support.servers import Server

API: Final = len(API_BODY)
FAKE: Final = b"GET /not/http HTTP/1.1\r\nHost: inside\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """Traffic to one server, and the exchanges that it is."""

    server: str
    play: Callable[[Server], object]
    exchanges: tuple[Exchange, ...]
    error: str | None = None


def asks(*requests: Request) -> Callable[[Server], object]:
    """One keep-alive connection with these requests, one after the other."""

    def play(server: Server) -> None:
        with Connection(server.host, server.port) as connection:
            for request in requests:
                connection.exchange(request)

    return play


def alone(request: Request) -> Callable[[Server], object]:
    """One connection that is closed behind its only answer."""
    return lambda server: once(server.host, server.port, request)


def get(target: bytes, *headers: tuple[bytes, bytes]) -> Request:
    """A GET."""
    return Request(b"GET", target, headers)


def got(path: str, size: int, status: int = 200) -> Exchange:
    """What a GET was."""
    return Exchange("GET", path, status, size, 0)


def sent(method: str, path: str, size: int, body: int, status: int = 200) -> Exchange:
    """What a request with a body was."""
    return Exchange(method, path, status, size, body)


def with_connection(use: Callable[[Connection], object]) -> Callable[[Server], object]:
    """One connection, used freely."""

    def play(server: Server) -> None:
        with Connection(server.host, server.port) as connection:
            use(connection)

    return play


def _tunnel(connection: Connection, opening: bytes) -> None:
    """Leave HTTP, then send what looks like HTTP and is echoed."""
    connection.socket.sendall(opening)
    connection.read(opening.partition(b" ")[0])
    for _ in range(3):
        connection.socket.sendall(FAKE)
        assert connection.read_exactly(len(FAKE)) == FAKE


def _promised_more(connection: Connection) -> None:
    """Read an answer whose connection breaks in the middle."""
    connection.socket.sendall(get(b"/broken").encode())
    with suppress(ConnectionResetError, EOFError):
        connection.read(b"GET")


def _version_6(server: Server) -> None:
    with Connection("::1", server.port) as connection:
        connection.exchange(get(b"/api/six"))


def _old_client(server: Server) -> None:
    """An HTTP/1.0 request; the answer ends with the connection."""
    with Connection(server.host, server.port) as connection:
        connection.socket.sendall(b"GET /close HTTP/1.0\r\n\r\n")
        assert len(connection.read(b"GET").body) == 700


UPGRADE: Final = b"GET /chat HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
CONNECT: Final = b"CONNECT inside:443 HTTP/1.1\r\nHost: inside:443\r\n\r\n"
# Sizes are what goes over the wire behind the head: a chunk of 100 bytes takes 106, the last chunk 5.
CASES: Final = {
    "nginx: one write, then keep-alive": Case(
        "nginx", asks(*(get(b"/api/%d" % n) for n in range(20))), tuple(got(f"/api/{n}", API) for n in range(20))
    ),
    "nginx: sendfile": Case(
        "nginx", asks(get(b"/files/65537"), get(b"/files/1048576")),
        (got("/files/65537", 65537), got("/files/1048576", 1048576)),
    ),
    "nginx: empty file": Case("nginx", asks(get(b"/files/0")), (got("/files/0", 0),)),
    "nginx: HEAD": Case(
        "nginx", asks(Request(b"HEAD", b"/files/1024"), get(b"/files/1")),
        (sent("HEAD", "/files/1024", 0, 0), got("/files/1", 1)),
    ),
    "nginx: 204": Case("nginx", asks(Request(b"DELETE", b"/empty/1")), (sent("DELETE", "/empty/1", 0, 0, 204),)),
    "nginx: 304": Case(
        "nginx", asks(get(b"/files/1024", (b"If-Modified-Since", FILE_TIME)), get(b"/files/1024")),
        (got("/files/1024", 0, 304), got("/files/1024", 1024)),
    ),
    "nginx: a method of somebody's own": Case(
        "nginx", asks(Request(b"PURGE", b"/api/cache")), (sent("PURGE", "/api/cache", API, 0),)
    ),
    "nginx: bodies": Case(
        "nginx", asks(Request(b"POST", b"/upload/a", (), b"a" * 100_000), Request(b"PUT", b"/created/b", (), b"b")),
        (sent("POST", "/upload/a", 6, 100_000), sent("PUT", "/created/b", 7, 1, 201)),
    ),
    "nginx: an answer before the body was read": Case(
        "nginx", asks(Request(b"POST", b"/early/a", (), b"a" * 70_000), get(b"/api/after")),
        (sent("POST", "/early/a", 5, 70_000), got("/api/after", API)),
    ),
    "nginx: 100 Continue": Case(
        "nginx", with_connection(lambda c: c.expecting(Request(b"POST", b"/upload/c", (), b"c" * 5000))),
        (sent("POST", "/upload/c", 6, 5000),),
    ),
    "nginx: a request byte by byte": Case(
        "nginx", with_connection(lambda c: c.dribble(get(b"/api/dribble", (b"X-A", b"b")))), (got("/api/dribble", API),)
    ),
    "nginx: a body that looks like a request": Case(
        "nginx", asks(Request(b"POST", b"/upload/d", (), FAKE * 3), get(b"/api/behind")),
        (sent("POST", "/upload/d", 6, 3 * len(FAKE)), got("/api/behind", API)),
    ),
    "nginx: a long head": Case(
        "nginx", asks(get(b"/api/long?" + b"q" * 3000, (b"X-Long", b"l" * 3000))), (got("/api/long", API),)
    ),
    "nginx: version 6": Case("nginx", _version_6, (got("/api/six", API),)),
    "nginx: refusals": Case(
        "nginx", asks(*(get(b"/status/%d" % code) for code in (403, 404, 500, 503))),
        tuple(got(f"/status/{code}", 2, code) for code in (403, 404, 500, 503)),
    ),
    "node: one write": Case("node", asks(get(b"/one"), get(b"/one")), (got("/one", 600),) * 2),
    "node: head, then body": Case("node", asks(get(b"/split"), get(b"/one")), (got("/split", 600), got("/one", 600))),
    "node: chunked": Case("node", asks(get(b"/chunked"), get(b"/one")), (got("/chunked", 624), got("/one", 600))),
    "node: trailers": Case("node", asks(get(b"/trailers"), get(b"/one")), (got("/trailers", 624), got("/one", 600))),
    "node: chunked upload": Case(
        "node", with_connection(lambda c: c.chunked(Request(b"POST", b"/echo"), (b"a" * 100, b"b" * 200))),
        (sent("POST", "/echo", 3, 317),),
    ),
    "node: early hints": Case("node", asks(get(b"/hints"), get(b"/one")), (got("/hints", 600), got("/one", 600))),
    "node: slow": Case("node", asks(get(b"/slow")), (got("/slow", 2),)),
    "node: upgrade": Case("node", with_connection(lambda c: _tunnel(c, UPGRADE)), (got("/chat", 0, 101),)),
    "node: CONNECT": Case("node", with_connection(lambda c: _tunnel(c, CONNECT)), (sent("CONNECT", "", 0, 0),)),
    "node: broken": Case("node", with_connection(_promised_more), (got("/broken", 100),), "reset"),
    "python: head and body in two writes": Case(
        "python",
        asks(get(b"/a"), Request(b"POST", b"/b", (), b"b" * 2000), Request(b"OPTIONS", b"*"), get(b"/status/404")),
        (got("/a", 700), sent("POST", "/b", 700, 2000), sent("OPTIONS", "*", 700, 0), got("/status/404", 700, 404)),
    ),
    "python: 100 Continue": Case(
        "python", with_connection(lambda c: c.expecting(Request(b"PUT", b"/c", (), b"c" * 300))),
        (sent("PUT", "/c", 700, 300),),
    ),
    "python: the end of the connection ends the body": Case("python", alone(get(b"/close")), (got("/close", 700),)),
    "python 1.0: length": Case("python 1.0", alone(get(b"/a")), (got("/a", 700),)),
    "python 1.0: HEAD": Case("python 1.0", alone(Request(b"HEAD", b"/a")), (sent("HEAD", "/a", 0, 0),)),
    "python 1.0: no length": Case("python 1.0", _old_client, (got("/close", 700),)),
    "scripted: an answer byte by byte": Case("dribble", alone(get(b"/a")), (got("/a", 2),)),
    "scripted: a head in two writes": Case("halves", asks(get(b"/a"), get(b"/b")), (got("/a", 2), got("/b", 2))),
    "curl": Case("nginx", lambda server: curl(f"{server.url}/api/curl"), (got("/api/curl", API),)),
    "curl: form": Case(
        "nginx", lambda server: curl(f"{server.url}/upload/curl", "-d", "a=" + "b" * 1500),
        (sent("POST", "/upload/curl", 6, 1502),),
    ),
}  # fmt: skip
SERVERS: Final = ("nginx", "node", "python", "python 1.0", "dribble", "halves")
DRIBBLE: Final[Any] = [["head"], ["dribble", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0.001], ["drain"]]
SPLIT_HEAD: Final[Any] = [
    ["head"],
    ["send", "HTTP/1.1 200 OK\r\nX: y"],
    ["sleep", 0.02],
    ["send", "\r\nContent-Length: 2\r\n\r\nok"],
]
HALVES: Final[Any] = [["repeat", 2, SPLIT_HEAD], ["drain"]]


def expected(server: str) -> Counter[Exchange]:
    """All exchanges of the cases with this server."""
    return Counter(one for case in CASES.values() if case.server == server for one in case.exchanges)


def start(stack: ExitStack, folder: Path) -> dict[str, Server]:
    """All servers, by the names that cases use."""
    made = {
        "nginx": servers.nginx(folder / "nginx"),
        "node": servers.node(folder / "node"),
        "python": servers.python_server(folder / "python"),
        "python 1.0": servers.python_server(folder / "python10", protocol="HTTP/1.0"),
        "dribble": servers.scripted(folder / "dribble", DRIBBLE),
        "halves": servers.scripted(folder / "halves", HALVES),
    }
    return {name: stack.enter_context(one) for name, one in made.items()}


def play(running: dict[str, Server]) -> None:
    """All cases, one after the other."""
    for case in CASES.values():
        case.play(running[case.server])
