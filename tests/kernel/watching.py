"""A running agent that watches one test's own ports, and what it says of them.

In: traffic on ports that no other test uses. Out: exchanges, connections and ledger rows as plain values. The agent
watches the whole machine: whatever else runs on it is left out by the port.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.agent import Agent, running_agent
from tests.support.clients import Request, once
from tests.support.otlp import Telemetry
from tests.support.servers import scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.support.otlp import Log, Point

_SETTINGS: Final = {
    "OTEL_METRIC_EXPORT_INTERVAL": "200",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",  # nothing is repeated: there is less to read
}
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESIDENT_BYTES: Final = 150 << 20
"""The most that the agent may ever hold, under whatever load of these tests: it needs 80 MB at ease."""

_PATIENCE_S: Final = 20
_LOOK_S: Final = 5.5
_FLUSH_S: Final = 0.5  # and the interval of metrics: what was too much would have come by then


class Told(NamedTuple):
    """One exchange as the agent tells it; None is what it does not say."""

    role: str
    method: str | None
    path: str | None
    status: int | None
    request_body: int | None
    response_body: int | None
    error: str | None = None
    missing: tuple[str, ...] = ()


class Watched:
    """The agent, and what it has written since the last look.

    Attributes:
        agent: The running agent.
    """

    def __init__(self, agent: Agent, folder: Path, interval_s: float) -> None:
        self.agent = agent
        self._quiet_s = _FLUSH_S + 1.3 * interval_s
        self._folder = folder
        self._read_bytes = 0
        self._logs: list[Log] = []
        self._totals: dict[tuple[Any, ...], tuple[Point, float]] = {}
        self._tried = 0

    def look(self) -> None:
        """Take in what is new. Raises UnicodeDecodeError or ValueError for what is not UTF-8 or not OTLP/JSON."""
        with self.agent.file.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        found = Telemetry.of_lines(whole.decode("utf-8").split("\n"))
        self._logs += found.logs
        for point in found.points:
            key = (point.metric, _frozen(point.resource), _frozen(point.attributes))
            before = self._totals[key][1] if point.delta and key in self._totals else 0
            self._totals[key] = (point, before + (point.count if point.kind == "histogram" else point.value))

    def logs(self, port: int) -> list[Log]:
        """The exchange records of both ends of connections to a port."""
        self.look()
        return [log for log in self._logs if _is_of(log, port)]

    def exchanges(self, port: int) -> Counter[Told]:
        """What is told of connections to a port."""
        return Counter(map(_told, self.logs(port)))

    def connections(self, port: int) -> dict[tuple[str, str | None], int]:
        """Connections to a port by role and error."""
        return self.sums("ebpf.tcp.connections", port, "ebpf.role", "error.type")

    def sums(self, metric: str, port: int | None, *keys: str) -> dict[tuple[Any, ...], int]:
        """Totals of a metric's series by the attributes *keys*: of one port, or of all with None.

        The total of a histogram is its number of measurements.
        """
        self.look()
        found: Counter[tuple[Any, ...]] = Counter()
        for point, total in self._totals.values():
            if point.metric == metric and port in (point.attributes.get("server.port"), None):
                found[tuple(point.attributes.get(key) for key in keys)] += round(total)
        return dict(found)

    def ledger(self) -> dict[tuple[str, str, str], int]:
        """The rows of the ledger by stage, outcome and reason, as last told."""
        rows = self.sums("otel_ebpf.records", None, "stage", "outcome", "reason")
        return {(stage, outcome, reason or ""): n for (stage, outcome, reason), n in rows.items()}

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return when *ready* says so and nothing more can come; also when it does not: then the test says what is."""
        deadline = time.monotonic() + _PATIENCE_S
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(self._quiet_s)

    def expect(self, port: int, exchanges: Counter[Told], connections: dict[tuple[str, str | None], int]) -> None:
        """Assert that exactly this is told of a port, in time."""
        self.wait(lambda: self.exchanges(port) == exchanges and self.connections(port) == connections)
        assert self.exchanges(port) == exchanges
        assert self.connections(port) == connections

    def wait_for_totals(self) -> None:
        """Return after the agent has looked at the totals of the kernel, which it does every five seconds."""
        time.sleep(_LOOK_S)

    def expect_healthy(self) -> None:
        """Assert that an ordinary exchange is seen at both ends and that memory is bounded."""
        self._tried += 1
        folder = self._folder / f"health-{self._tried}"
        with scripted(folder, [["head"], ["send", ANSWER], ["drain"]]) as server:
            assert once(server.host, server.port, Request(b"GET", b"/health")).status == 200
            self.wait(lambda: sum(self.exchanges(server.port).values()) == 2)
            assert self.exchanges(server.port) == both("GET", "/health", 200, 0, 2)
        assert self.agent.resident_peak_bytes() < RESIDENT_BYTES

    def finish(self) -> None:
        """End the agent; assert that it ended well, complained of nothing, and that its ledger closes."""
        code = self.agent.stop()
        output = self.agent.child.output()
        assert code == 0, output[-4000:]
        assert "Traceback" not in output
        check_ledger(self.ledger(), len(self._logs))


@contextmanager
def watching(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Watched]:
    """An agent that, unless *settings* say otherwise, tells all exchanges, and metrics five times a second."""
    whole = {**_SETTINGS, **(settings or {})}
    with running_agent(folder, whole) as agent:
        yield Watched(agent, folder, int(whole["OTEL_METRIC_EXPORT_INTERVAL"]) / 1000)


def check_ledger(rows: Mapping[tuple[str, str, str], int], logs: int) -> None:
    """Assert that what was seen is what was passed on, aggregated, sampled out and dropped, to the last one."""
    seen, fates = rows.get(("exchange", "seen", ""), 0), ("aggregated", "sampled_out", "dropped")
    assert seen == sum(n for (stage, fate, _), n in rows.items() if stage == "exchange" and fate in fates)
    untold = sum(n for (stage, fate, _), n in rows.items() if stage == "log" and fate in ("sampled_out", "dropped"))
    assert rows.get(("log", "seen", ""), 0) == logs + untold
    passed = sum(n for (stage, fate, _), n in rows.items() if stage == "segment" and fate != "seen")
    assert rows.get(("segment", "seen", ""), 0) == passed


def both(  # noqa: PLR0917  # the columns of a table
    method: str | None,
    path: str | None,
    status: int | None,
    request_body: int | None,
    response_body: int | None,
    error: str | None = None,
    missing: tuple[str, ...] = (),
    *,
    times: int = 1,
) -> Counter[Told]:
    """The same exchange told by client and server."""
    one = (method, path, status, request_body, response_body, error, missing)
    return Counter({Told(role, *one): times for role in ("client", "server")})


def opened(times: int) -> dict[tuple[str, str | None], int]:
    """So many connections, counted at both ends."""
    return {("client", None): times, ("server", None): times}


def _is_of(log: Log, port: int) -> bool:
    key = "network.peer.port" if log.attributes["ebpf.role"] == "client" else "server.port"
    return log.attributes.get(key) == port


def _told(log: Log) -> Told:
    found = log.attributes
    return Told(
        found["ebpf.role"],
        found.get("http.request.method_original", found.get("http.request.method")),
        found.get("url.path"),
        found.get("http.response.status_code"),
        found.get("http.request.body.size"),
        found.get("http.response.body.size"),
        found.get("error.type"),
        tuple(found.get("ebpf.exchange.missing", ())),
    )


def _frozen(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in attributes.items()))
