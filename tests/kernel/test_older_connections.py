"""Connections that are older than the agent: found at its start, with the right role, and followed from then on."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent import running_agent
from tests.support.clients import Connection, Exchange, Request
from tests.support.servers import API_BODY, nginx, node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.otlp import Telemetry

ROLES: Final = ("client", "server")
FIRST: Final = Request(b"GET", b"/api/before")
FAMILIES: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the agent told, and whom it was about."""

    told: Telemetry
    nginx_port: int
    node_port: int


def _requests(number: int) -> list[Request]:
    get = Request(b"GET", b"/api/after/%d" % number)
    return [get, Request(b"POST", b"/api/after/%d" % number, (), b"b" * 300)]


@pytest.fixture(scope="module", params=["", "payload.tp_btf"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Clients connect and are answered, then the agent starts, then they go on."""
    folder = tmp_path_factory.mktemp("older")
    with ExitStack() as stack:
        web, app = stack.enter_context(nginx(folder / "nginx")), stack.enter_context(node(folder / "node"))
        used = [stack.enter_context(Connection(host, web.port)) for host in FAMILIES]
        unused = stack.enter_context(Connection(web.host, web.port))
        silent = stack.enter_context(Connection(web.host, web.port))
        busy = stack.enter_context(Connection(app.host, app.port))
        for connection in used:
            connection.exchange(FIRST)
        busy.socket.sendall(b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 400\r\n\r\n" + b"b" * 100)
        settings = {"OTEL_EBPF_PROBES_OFF": request.param} if request.param else {}
        agent = stack.enter_context(running_agent(folder / "agent", settings))
        for number, connection in enumerate((*used, unused)):
            for one in _requests(number):
                connection.exchange(one)
        busy.socket.sendall(b"b" * 300)
        busy.read(b"POST")
        busy.exchange(Request(b"GET", b"/one"))
        told = agent.finished()
        assert silent.exchange(FIRST).status == 200
        yield Seen(told, web.port, app.port)


@pytest.mark.parametrize("role", ROLES)
def test_seen_from_the_first_request_on(seen: Seen, role: str) -> None:
    """Every exchange after the start is told at both ends, and none from before."""
    after = [one.answered(200, len(API_BODY)) for number in range(len(FAMILIES) + 1) for one in _requests(number)]
    assert seen.told.exchange_counts(role, server__port=seen.nginx_port) == Counter(after)


@pytest.mark.parametrize("role", ROLES)
def test_each_end_belongs_to_its_process(seen: Seen, role: str) -> None:
    """The server's end is nginx's, the client's end this process's, over both address families."""
    records = seen.told.exchanges(role, server__port=seen.nginx_port)
    names = {record.resource["service.name"] for record in records}
    assert names == {"nginx" if role == "server" else Path(sys.executable).resolve().name}
    assert {record.attributes["network.type"] for record in records} == {"ipv4", "ipv6"}


@pytest.mark.parametrize("role", ROLES)
def test_a_body_under_way_is_not_mistaken(seen: Seen, role: str) -> None:
    """On a connection that was in the middle of a request body, the next whole exchange is told, and told right."""
    told = seen.told.exchange_counts(role, server__port=seen.node_port)
    assert told[Exchange("GET", "/one", 200, 600, 0)] == 1
    assert all(exchange.path != "" for exchange in told)


@pytest.mark.parametrize("role", ROLES)
def test_they_are_open_but_were_not_opened(seen: Seen, role: str) -> None:
    """They count as active, the silent one too, but not as connections made: nobody saw them begin."""
    active = seen.told.total("ebpf.tcp.connections.active", ebpf__role=role, server__port=seen.nginx_port)
    assert active == len(FAMILIES) + 2
    assert seen.told.total("ebpf.tcp.connections", ebpf__role=role, server__port=seen.nginx_port) == 0
    assert seen.told.count("ebpf.tcp.handshake.duration", server__port=seen.nginx_port) == 0
