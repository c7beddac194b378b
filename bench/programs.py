"""The C programs of the bench: compiled on first use, run with their output parsed.

In: parameters. Out: typed results.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_BUILD: Final = _HERE.parent / "build" / "bench"


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """The cheapest block of a ping-pong, in ns of the thread's processor time.

    Attributes:
        round_trip: One round trip: an exchange, seen from both of its sides.
        other_call: A system call that has nothing to do with sockets.
        file_call: A read or a write of a file.
    """

    round_trip: float
    other_call: float
    file_call: float

    def cheaper(self, other: RoundTrips) -> RoundTrips:
        """The lower of either, value by value."""
        return RoundTrips(
            min(self.round_trip, other.round_trip),
            min(self.other_call, other.other_call),
            min(self.file_call, other.file_call),
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What a paced load did.

    Attributes:
        requests: Requests that were sent and answered.
        seconds: From the first request to the last answer.
        late: Requests that went out more than 1 ms after they were due.
        p50_us: Median of the answer times in µs.
        p99_us: 99th percentile of them.
    """

    requests: int
    seconds: float
    late: int
    p50_us: int
    p99_us: int


def ping_pong(*, blocks: int, round_trips: int, pause_ms: int) -> RoundTrips:
    """Play both ends of a connection in one thread; the pauses let the agent empty the ring between blocks."""
    numbers = map(str, (blocks, round_trips, pause_ms))
    output = subprocess.run(
        [program("pingpong"), *numbers], check=True, capture_output=True, text=True, timeout=300
    ).stdout
    rows = [[float(number) for number in line.split()] for line in output.splitlines()]
    return RoundTrips(*(min(column) for column in zip(*rows, strict=True)))


def paced(origin: tuple[str, int], *, path: str, connections: int, rate: int, seconds: int) -> Load:
    """Send *rate* requests a second to a host and port for that long; raises CalledProcessError on any failure."""
    numbers = map(str, (connections, rate, rate * seconds, seconds + 20))
    command = [str(program("paced")), origin[0], str(origin[1]), path, *numbers]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    values = json.loads(output)
    return Load(values["requests"], values["seconds"], values["late"], values["p50_us"], values["p99_us"])


def program(name: str) -> Path:
    """A program of the bench, compiled when its source is younger."""
    source, binary = _HERE / f"{name}.c", _BUILD / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        _BUILD.mkdir(parents=True, exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, "-o", binary, source], check=True, timeout=60)
    return binary
