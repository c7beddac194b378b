"""What an exchange costs in the kernel, by capture source.

In: an agent started once per source and round. Out: the difference to a machine without the agent, as processor time of
the thread that has the exchange. The states take turns, and the cheapest block of each counts: that leaves noise out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import Measurement
from bench.programs import RoundTrips, ping_pong
from otel_ebpf.kernel.probes import PROBES
from tests.support.agent import running_agent
from tests.support.processes import ChildFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOURCES: Final = ("tp_btf", "fentry", "kprobe", "syscall")
_PAYLOAD: Final = "payload"
_SIDES: Final = 2  # a round trip is one exchange, seen by its client and by its server
# A block must fit into the ring, else refused records would look cheap: 1,000 round trips are some 1.5 MB.
_ROUND_TRIPS: Final = 1000
_PAUSE_MS: Final = 150
_METRICS_ONLY: Final = {
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_EBPF_EXCHANGE_LOGS": "off",
    "OTEL_EBPF_EXCHANGE_SPANS": "off",
}


def measure(folder: Path, say: Callable[[str], None], *, rounds: int, blocks: int) -> Iterator[Measurement]:
    """Measure every capture source that this kernel can load."""
    best: dict[str, RoundTrips] = {}
    for number in range(rounds):
        for source in ("", *SOURCES):
            say(f"round {number + 1} of {rounds}: {source or 'without the agent'}")
            found = _one(folder / f"{number}-{source}", source, blocks) if source else _blocks(blocks)
            if found:
                best[source] = best[source].cheaper(found) if source in best else found
    yield Measurement("machine.round_trip", best[""].round_trip)
    for source in best.keys() - {""}:
        yield from _differences(source, best[source], best[""])


def _blocks(blocks: int) -> RoundTrips:
    return ping_pong(blocks=blocks, round_trips=_ROUND_TRIPS, pause_ms=_PAUSE_MS)


def _one(folder: Path, source: str, blocks: int) -> RoundTrips | None:
    """None when the kernel does not take this source."""
    settings = {**_METRICS_ONLY, "OTEL_EBPF_PROBES_OFF": ",".join(_all_but(source))}
    try:
        with running_agent(folder, settings) as agent:
            return _blocks(blocks) if _chosen(agent.child.output(), source) else None
    except ChildFailedError:
        return None


def _all_but(source: str) -> Iterator[str]:
    """The other alternatives of the payload hook, as the setting names them."""
    payload = next(hook for hook in PROBES if hook.name == _PAYLOAD)
    return (f"{_PAYLOAD}.{other.name}" for other in payload.alternatives if other.name != source)


def _chosen(output: str, source: str) -> bool:
    """The agent says once which alternative each hook has."""
    return f"{_PAYLOAD}={source}," in output


def _differences(source: str, on: RoundTrips, off: RoundTrips) -> Iterator[Measurement]:
    yield Measurement(f"capture.{source}.exchange", (on.round_trip - off.round_trip) / _SIDES)
    yield Measurement(f"capture.{source}.other_call", on.other_call - off.other_call)
    yield Measurement(f"capture.{source}.file_call", on.file_call - off.file_call)
