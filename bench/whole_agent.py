"""The whole agent under real load: processor, memory, start, what it caught and what its ledger says.

In: nginx, a paced load, wrk. Out: measurements.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Measurement
from bench.programs import paced
from tests.support.agent import Agent, running_agent
from tests.support.clients import wrk
from tests.support.collector import Collector, collector_binary
from tests.support.servers import Server, nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.otlp import Telemetry

RATES: Final = (1000, 5000, 10000)
_FULL_RATE: Final = 10000
_PATH: Final = "/files/1024"
_CONNECTIONS: Final = 32
_MEGABYTE: Final = 1_000_000
_SETTLE_S: Final = 1.5  # the last turn of a connection is reported by a sweep, then the interval writes it
_INTERVAL: Final = {"OTEL_METRIC_EXPORT_INTERVAL": "10000"}  # what the console has; a load has some of them
_METRICS: Final = {**_INTERVAL, "OTEL_EBPF_EXCHANGE_LOGS": "off", "OTEL_EBPF_EXCHANGE_SPANS": "off"}
_BY_OTLP: Final = {f"OTEL_{signal}_EXPORTER": "otlp" for signal in ("METRICS", "LOGS", "TRACES")}
_DETAILS: Final = {**_INTERVAL, **_BY_OTLP, "OTEL_EBPF_EXCHANGE_LOGS": "all", "OTEL_EBPF_EXCHANGE_SPANS": "all"}
_LEDGER: Final = "otel_ebpf.records"
_ROLES: Final = ("server", "client")  # both ends are on this machine: every exchange is seen twice
# Not everything dropped is an exchange: bytes that nobody needs (the body of a file that was sent) are calls.
_LOSSES: Final = ("kernel.turn", "exchange", "metric")


def measure(folder: Path, say: Callable[[str], None], *, seconds: int) -> Iterator[Measurement]:
    """Measure everything that needs the agent as a process."""
    with nginx(folder / "nginx", log=False) as server:
        bench = _Bench(folder, server, say, seconds)
        yield from bench.without_agent()
        yield from bench.metrics_only()
        yield from bench.with_details()
        yield from bench.highest()


@dataclass(frozen=True, slots=True)
class _Bench:
    """One server and the loads on it."""

    folder: Path
    server: Server
    say: Callable[[str], None]
    seconds: int

    def without_agent(self) -> Iterator[Measurement]:
        """What the machine can do by itself."""
        self.say("highest rate without the agent")
        yield Measurement("rate.highest.plain", self._wrk() / self.seconds)

    def metrics_only(self) -> Iterator[Measurement]:
        """Every rate, with a start of its own; the best start counts, as others may use the machine."""
        starts: list[float] = []
        for rate in RATES:
            self.say(f"{rate:,} exchanges/s, metrics only")
            with _watched_start(self.folder / f"metrics-{rate}", _METRICS) as (agent, started_s, child_peak):
                starts.append(started_s)
                if rate == RATES[0]:
                    yield from _idle(agent, child_peak)
                cores, requests = self._load(agent, rate)
                yield Measurement(f"cpu.metrics.{rate}", cores)
                if rate == _FULL_RATE:
                    yield from self._full(agent, requests)
        yield Measurement("start.capturing", min(starts))

    def _full(self, agent: Agent, requests: int) -> Iterator[Measurement]:
        yield Measurement("memory.after", agent.resident_bytes() / _MEGABYTE)
        telemetry = agent.finished()
        lost = self._told(telemetry)
        yield Measurement("ratio.10000", 100 * seen(telemetry, self.server.port) / (len(_ROLES) * requests))
        yield Measurement("dropped.10000", lost)

    def with_details(self) -> Iterator[Measurement]:
        """The full rate with a log record and a span of every exchange, sent to a real Collector."""
        self.say(f"{_FULL_RATE:,} exchanges/s, log and span of all, to a Collector by gRPC")
        with Collector(collector_binary(), self.folder / "collector", discard=True) as collector:
            settings = {**_DETAILS, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc_endpoint}
            with running_agent(self.folder / "details", settings) as agent:
                yield Measurement(f"cpu.details.{_FULL_RATE}", self._load(agent, _FULL_RATE)[0])
                yield Measurement("memory.details", agent.resident_bytes() / _MEGABYTE)

    def highest(self) -> Iterator[Measurement]:
        """As fast as wrk can."""
        self.say("highest rate with the agent")
        with running_agent(self.folder / "highest", _METRICS) as agent:
            requests = self._wrk()
            time.sleep(_SETTLE_S)
            telemetry = agent.finished()
        sides, counted, lost = len(_ROLES) * requests, seen(telemetry, self.server.port), self._told(telemetry)
        yield Measurement("rate.highest", requests / self.seconds)
        # wrk stops in the middle: a few more exchanges than it counted have happened
        yield Measurement("captured.highest", min(100.0, 100 * counted / sides))
        yield Measurement("ratio.highest", min(100.0, 100 * (counted + lost) / sides))
        yield Measurement("dropped.highest", lost)

    def _told(self, telemetry: Telemetry) -> float:
        """The losses, each of them said."""
        lost = losses(telemetry)
        for (stage, reason), number in sorted(lost.items()):
            self.say(f"dropped: {number:,.0f} of {stage} ({reason})")
        return sum(lost.values())

    def _wrk(self) -> int:
        return wrk(self.server.url + _PATH, seconds=self.seconds, connections=_CONNECTIONS)

    def _load(self, agent: Agent, rate: int) -> tuple[float, int]:
        """Cores used while the load lasted; number of requests."""
        before, began, origin = agent.cpu_s(), time.monotonic(), (self.server.host, self.server.port)
        load = paced(origin, path=_PATH, connections=_CONNECTIONS, rate=rate, seconds=self.seconds)
        used = (agent.cpu_s() - before) / (time.monotonic() - began)
        time.sleep(_SETTLE_S)
        return used, load.requests


def _idle(agent: Agent, child_peak: int) -> Iterator[Measurement]:
    time.sleep(_SETTLE_S)
    yield Measurement("memory.child", child_peak / _MEGABYTE)
    yield Measurement("memory.idle", agent.resident_bytes() / _MEGABYTE)
    yield Measurement("memory.maps", map_bytes(agent.child.pid) / _MEGABYTE)


def losses(telemetry: Telemetry) -> dict[tuple[str, str], float]:
    """What the ledger calls dropped of exchanges and of what they are made of, by stage and reason."""
    lost: dict[tuple[str, str], float] = {}
    for stage in _LOSSES:
        reasons = {str(point.attributes.get("reason", "")) for point in telemetry.points if point.metric == _LEDGER}
        for reason in reasons:
            number = telemetry.total(_LEDGER, outcome="dropped", stage=stage, reason=reason)
            lost |= {(stage, reason): number} if number else {}
    return lost


def seen(telemetry: Telemetry, port: int) -> int:
    """Exchanges with a server's port that were counted, from either side."""
    return sum(telemetry.count(f"http.{role}.request.duration", server__port=port) for role in _ROLES)


def map_bytes(pid: int) -> int:
    """Memory of the BPF maps that a process holds: "memlock" of its descriptors, each map once."""
    found: dict[str, int] = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(line.split(":\t", 1) for line in path.read_text(encoding="ascii").splitlines() if ":\t" in line)
        if "map_id" in fields:
            found[fields["map_id"]] = int(fields["memlock"])
    return sum(found.values())


@contextmanager
def _watched_start(folder: Path, settings: dict[str, str]) -> Iterator[tuple[Agent, float, int]]:
    """A running agent, the seconds it took to capture, and the most memory that one of its children had meanwhile."""
    watch = _Children()
    began = time.monotonic()
    with watch, running_agent(folder, settings) as agent:
        started_s = time.monotonic() - began
        watch.stop()
        yield agent, started_s, watch.peak_bytes


class _Children(threading.Thread):
    """Looks at the peak memory of the grandchildren of this process every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._done = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Look no more."""
        self._done.set()
        self.join()

    def run(self) -> None:
        """Until told to stop."""
        while not self._done.wait(0.005):
            for child in _children("self"):
                for grandchild in _children(child):
                    self.peak_bytes = max(self.peak_bytes, _peak_bytes(grandchild))


def _children(pid: str) -> list[str]:
    try:
        return [
            child
            for path in Path(f"/proc/{pid}/task").iterdir()
            for child in (path / "children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []


def _peak_bytes(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
