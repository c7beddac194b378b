"""The whole agent under real load: processor, memory, start, what it caught and what its ledger says.

In: nginx, a paced load, wrk. Out: measurements.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Measurement
from bench.programs import paced
from tests.support.agent import Agent, running_agent
from tests.support.clients import wrk
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
_METRICS: Final = {"OTEL_EBPF_EXCHANGE_LOGS": "off", "OTEL_EBPF_EXCHANGE_SPANS": "off"}
_DETAILS: Final = {"OTEL_EBPF_EXCHANGE_LOGS": "all", "OTEL_EBPF_EXCHANGE_SPANS": "all"}
_LEDGER: Final = "otel_ebpf.records"
_ROLES: Final = ("server", "client")  # both ends are on this machine: every exchange is seen twice
# Not everything dropped is an exchange: bytes that nobody needs (the body of a file that was sent) are calls.
_LOSSES: Final = ("kernel.turn", "exchange", "metric")


def measure(folder: Path, say: Callable[[str], None], *, seconds: int) -> Iterator[Measurement]:
    """Measure everything that needs the agent as a process."""
    with nginx(folder / "nginx", log=False) as server:
        say("highest rate without the agent")
        requests = wrk(server.url + _PATH, seconds=seconds, connections=_CONNECTIONS)
        yield Measurement("rate.highest.plain", requests / seconds)
        yield from _metrics_only(folder / "metrics", server, say, seconds)
        yield from _with_details(folder / "details", server, say, seconds)
        yield from _highest(folder / "highest", server, say, seconds)


def _metrics_only(folder: Path, server: Server, say: Callable[[str], None], seconds: int) -> Iterator[Measurement]:
    for rate in RATES:
        say(f"{rate} exchanges/s, metrics only")
        with _watched_start(folder / str(rate), _METRICS) as (agent, started_s, child_peak):
            if rate == RATES[0]:
                yield Measurement("start.capturing", started_s)
                yield Measurement("memory.child", child_peak / _MEGABYTE)
                time.sleep(_SETTLE_S)
                yield Measurement("memory.idle", agent.resident_bytes() / _MEGABYTE)
                yield Measurement("memory.maps", map_bytes(agent.child.pid) / _MEGABYTE)
            cores, requests = _load(agent, server, rate, seconds)
            yield Measurement(f"cpu.metrics.{rate}", cores)
            if rate == _FULL_RATE:
                yield Measurement("memory.after", agent.resident_bytes() / _MEGABYTE)
                telemetry = agent.finished()
                yield Measurement("ratio.10000", 100 * seen(telemetry, server.port) / (len(_ROLES) * requests))
                yield Measurement("dropped.10000", dropped(telemetry, *_LOSSES))


def _with_details(folder: Path, server: Server, say: Callable[[str], None], seconds: int) -> Iterator[Measurement]:
    say(f"{_FULL_RATE} exchanges/s, log and span of all")
    with running_agent(folder, _DETAILS) as agent:
        yield Measurement(f"cpu.details.{_FULL_RATE}", _load(agent, server, _FULL_RATE, seconds)[0])


def _highest(folder: Path, server: Server, say: Callable[[str], None], seconds: int) -> Iterator[Measurement]:
    say("highest rate with the agent")
    with running_agent(folder, _METRICS) as agent:
        requests = wrk(server.url + _PATH, seconds=seconds, connections=_CONNECTIONS)
        time.sleep(_SETTLE_S)
        telemetry = agent.finished()
    sides, counted, lost = len(_ROLES) * requests, seen(telemetry, server.port), dropped(telemetry, *_LOSSES)
    yield Measurement("rate.highest", requests / seconds)
    # wrk stops in the middle: a few more exchanges than it counted have happened
    yield Measurement("captured.highest", min(100.0, 100 * counted / sides))
    yield Measurement("ratio.highest", min(100.0, 100 * (counted + lost) / sides))
    yield Measurement("dropped.highest", lost)


def _load(agent: Agent, server: Server, rate: int, seconds: int) -> tuple[float, int]:
    """Cores used while the load lasted and its rest was worked off; number of requests."""
    before, began = agent.cpu_s(), time.monotonic()
    load = paced((server.host, server.port), path=_PATH, connections=_CONNECTIONS, rate=rate, seconds=seconds)
    used = (agent.cpu_s() - before) / (time.monotonic() - began)
    time.sleep(_SETTLE_S)
    return used, load.requests


def dropped(telemetry: Telemetry, *stages: str) -> float:
    """What the ledger calls dropped, over some stages."""
    return sum(telemetry.total(_LEDGER, outcome="dropped", stage=stage) for stage in stages)


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
