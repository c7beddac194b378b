"""Real servers and clients with all their habits: each exchange is told once at both ends, with its true sizes."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import servers
from tests.support.agent import running_agent
from tests.support.clients import h2load, wrk
from tests.support.habits import API, CASES, SERVERS, asks, expected, get, got, play, start
from tests.support.otlp import exchange_of
from tests.support.servers import nginx_served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.otlp import Log, Span, Telemetry

ROLES: Final = ("client", "server")
RING: Final = {"OTEL_EBPF_RING_SIZE": str(1 << 25)}
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
SW8_TRACE, SW8_SEGMENT = b"MTIzNDU2Nzg5MGFiY2RlZg==", b"MGFmNzY1MTkxNmNkNDNkZA=="


CONTEXTS: Final = {
    "traceparent": ((b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()),),
    "b3": ((b"b3", f"{TRACE}-{PARENT}-1".encode()),),
    "b3-multi": ((b"X-B3-TraceId", TRACE.encode()), (b"X-B3-SpanId", PARENT.encode()), (b"X-B3-Sampled", b"1")),
}
SW8: Final = b"1-" + SW8_TRACE + b"-" + SW8_SEGMENT + b"-3-UEFSRU5UX1NFUlZJQ0U=-UEFSRU5U-L2E=-aG9zdDo4MA=="


@dataclass(frozen=True, slots=True)
class Seen:
    """What the agent told of the cases, and the ports of their servers."""

    told: Telemetry
    ports: dict[str, int]

    def logs(self, role: str, server: str, path: str) -> list[Log]:
        """Exchange records of one end with this path."""
        return [log for log in self.of(role, server) if log.attributes.get("url.path", "") == path]

    def of(self, role: str, server: str) -> list[Log]:
        """Exchange records of one end with one server."""
        port = self.ports[server]
        remote = "network.peer.port"
        records = self.told.exchanges(role)
        if role == "client":
            return [log for log in records if log.attributes[remote] == port]
        return [
            log for log in records if log.attributes["server.port"] == port or (server == "node" and _is_inside(log))
        ]


def _is_inside(log: Log) -> bool:
    return bool(log.attributes["server.address"] == "inside")


@pytest.fixture(scope="module", params=["", "payload.tp_btf"], ids=["tp_btf", "syscall"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """All cases, one after the other, beside one agent."""
    folder = tmp_path_factory.mktemp("servers")
    off = {"OTEL_EBPF_PROBES_OFF": request.param} if request.param else {}
    with ExitStack() as stack:
        running = start(stack, folder)
        agent = stack.enter_context(running_agent(folder / "agent", off))
        play(running)
        for name, headers in CONTEXTS.items():
            asks(get(b"/api/trace/" + name.encode(), *headers))(running["nginx"])
        asks(get(b"/api/trace/sw8", (b"sw8", SW8)))(running["nginx"])
        asks(get(b"/api/trace/unsampled", (b"traceparent", f"00-{TRACE}-{PARENT}-00".encode())))(running["nginx"])
        yield Seen(agent.finished(), {name: server.port for name, server in running.items()})


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("server", SERVERS)
def test_nothing_else_is_told(seen: Seen, role: str, server: str) -> None:
    """With each server there were exactly the exchanges of its cases: none is missing, none was made up."""
    wanted = expected(server)
    if server == "nginx":
        wanted.update(got(f"/api/trace/{name}", API) for name in (*CONTEXTS, "sw8", "unsampled"))
    assert Counter(exchange_of(log) for log in seen.of(role, server)) == wanted


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CASES)
def test_each_habit(seen: Seen, name: str, role: str) -> None:
    """Each exchange of the case has its method, status and sizes, and the error that it ended with."""
    case = CASES[name]
    for one in case.exchanges:
        logs = [log for log in seen.logs(role, case.server, one.path) if exchange_of(log) == one]
        assert logs, [(exchange_of(log), log.attributes) for log in seen.logs(role, case.server, one.path)]
        if case.error:
            assert [log.attributes["error.type"] for log in logs] == [case.error]


@pytest.mark.parametrize("name", CONTEXTS)
def test_the_callers_span_is_the_parent(seen: Seen, name: str) -> None:
    """Spans of both ends continue the trace of the request's headers."""
    spans = _spans(seen, f"/api/trace/{name}")
    assert sorted(span.kind for span in spans) == [2, 3]
    assert {(span.trace_id, span.parent_span_id) for span in spans} == {(TRACE, PARENT)}


def test_skywalking_context_is_a_parent(seen: Seen) -> None:
    """Ids of sw8 are made into ids of OpenTelemetry, the same at both ends."""
    spans = _spans(seen, "/api/trace/sw8")
    assert sorted(span.kind for span in spans) == [2, 3]
    (context,) = {(span.trace_id, span.parent_span_id) for span in spans}
    assert all(context)


def test_the_callers_decision_not_to_sample_is_respected(seen: Seen) -> None:
    """There is no span, and the log records of both ends are joined to the caller's."""
    assert _spans(seen, "/api/trace/unsampled") == []
    logs = [log for role in ROLES for log in seen.logs(role, "nginx", "/api/trace/unsampled")]
    assert [(log.trace_id, log.span_id) for log in logs] == [(TRACE, PARENT)] * 2


def _spans(seen: Seen, path: str) -> list[Span]:
    return [span for span in seen.told.spans if span.attributes.get("url.path") == path]


def test_load_generators_are_counted_exactly(tmp_path: Path) -> None:
    """What h2load and wrk did is what nginx logged and what the server side was counted as, to the last one."""
    quiet = {"OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}
    with servers.nginx(tmp_path / "nginx") as server, running_agent(tmp_path / "agent", quiet | RING) as agent:
        h2load(f"{server.url}/api/h2load", requests=3000, connections=3)
        finished = wrk(f"{server.url}/status/404", seconds=1, connections=2)
        told = agent.finished()
        served = nginx_served(server).total()
    port = {"server__port": server.port}
    assert told.count("http.client.request.duration", http__response__status_code=200, **port) == 3000
    assert told.count("http.server.request.duration", http__response__status_code=200, **port) == 3000
    assert told.count("http.server.request.duration", **port) == served
    assert 0 <= told.count("http.client.request.duration", http__response__status_code=404, **port) - finished <= 2
