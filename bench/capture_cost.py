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
DEFAULT: Final = "default"  # the agent as it comes, whatever it chose
_NOTHING: Final = ""
_PAYLOAD: Final = "payload"
_EVERY_CALL: Final = "accept.syscall"  # looks at every system call where nothing better is there: not the source's cost
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
    states = [_NOTHING, *SOURCES, DEFAULT]
    for number in range(rounds):
        for state in tuple(states):
            say(f"round {number + 1} of {rounds}: {state or 'without the agent'}")
            found = _one(folder / f"{number}-{state}", state, blocks) if state else _blocks(blocks)
            if found:
                best[state] = best[state].cheaper(found) if state in best else found
            else:
                say(f"this kernel does not take {state}")
                states.remove(state)
    yield Measurement("machine.round_trip", best[_NOTHING].round_trip)
    for state in best.keys() - {_NOTHING}:
        yield from _differences(state, best[state], best[_NOTHING])


def _blocks(blocks: int) -> RoundTrips:
    return ping_pong(blocks=blocks, round_trips=_ROUND_TRIPS, pause_ms=_PAUSE_MS)


def _one(folder: Path, source: str, blocks: int) -> RoundTrips | None:
    """None when the kernel does not take this source."""
    off = () if source == DEFAULT else (*_all_but(source), _EVERY_CALL)
    settings = {**_METRICS_ONLY, "OTEL_EBPF_PROBES_OFF": ",".join(off)}
    try:
        with running_agent(folder, settings) as agent:
            return _blocks(blocks) if _is_on(agent.child.output(), source) else None
    except ChildFailedError:
        return None


def _all_but(source: str) -> Iterator[str]:
    """The other alternatives of the payload hook, as the setting names them."""
    payload = next(hook for hook in PROBES if hook.name == _PAYLOAD)
    return (f"{_PAYLOAD}.{other.name}" for other in payload.alternatives if other.name != source)


def _is_on(output: str, source: str) -> bool:
    """The agent says once which alternative each hook has."""
    return source == DEFAULT or f"{_PAYLOAD}={source}," in output


def _differences(source: str, on: RoundTrips, off: RoundTrips) -> Iterator[Measurement]:
    yield Measurement(f"capture.{source}.exchange", (on.round_trip - off.round_trip) / _SIDES)
    yield Measurement(f"capture.{source}.share", (on.round_trip - off.round_trip) / off.round_trip * 100)
    yield Measurement(f"capture.{source}.other_call", on.other_call - off.other_call)
    yield Measurement(f"capture.{source}.file_call", on.file_call - off.file_call)
