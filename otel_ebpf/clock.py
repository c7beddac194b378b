"""Time: the kernel's monotonic clock, and what it means on the wall.

In: nanoseconds since boot (``CLOCK_MONOTONIC``, what ``bpf_ktime_get_ns`` gives). Out: nanoseconds since 1970.
"""

from __future__ import annotations

import time
from typing import Final

# The two clocks cannot be read at one instant; of this many tries the one with the least time in between is believed.
_TRIES: Final = 5


def measure_offset_ns() -> int:
    """Return what to add to ``CLOCK_MONOTONIC`` to get Unix time, in ns; right to about a microsecond."""
    return min(_bracketed_offset() for _ in range(_TRIES))[1]


def _bracketed_offset() -> tuple[int, int]:
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall - (before + after) // 2


class Clock:
    """The machine's clock. ``wall_ns`` is linear between two calls of ``refresh``, so durations never bend.

    Attributes:
        offset_ns: What turns monotonic into Unix time; a recording keeps it.
    """

    def __init__(self) -> None:
        self.offset_ns = measure_offset_ns()

    def monotonic_ns(self) -> int:
        """Return ns since boot, the time scale of every record."""
        return time.monotonic_ns()

    def wall_ns(self, monotonic_ns: int) -> int:
        """Return Unix time in ns of an instant given in ns since boot."""
        return monotonic_ns + self.offset_ns

    def refresh(self) -> None:
        """Measure the offset again: NTP slews and steps the wall clock while the agent runs."""
        self.offset_ns = measure_offset_ns()


class FixedClock(Clock):
    """A clock that stands still until it is moved: replay and tests.

    Attributes:
        now_ns: What ``monotonic_ns`` gives.
    """

    def __init__(self, now_ns: int = 0, offset_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.offset_ns = offset_ns

    def monotonic_ns(self) -> int:
        """Return ``now_ns``."""
        return self.now_ns

    def refresh(self) -> None:
        """Keep the offset: a recording replays with the one it was made with."""

    def advance(self, ns: int) -> None:
        """Move on by *ns* nanoseconds."""
        self.now_ns += ns


class StepClock(FixedClock):
    """The clock of the live loop: stands at the time of the batch, and follows the wall clock when it is refreshed."""

    def refresh(self) -> None:
        """Measure the offset again."""
        self.offset_ns = measure_offset_ns()
