"""The clock: monotonic to wall time and back to earth."""

from __future__ import annotations

import time

from otel_ebpf.clock import Clock, FixedClock, StepClock


def test_now_on_the_monotonic_clock_is_now_on_the_wall() -> None:
    """The offset is right to a millisecond on any machine that is not being suspended."""
    clock = Clock()
    assert abs(clock.wall_ns(clock.monotonic_ns()) - time.time_ns()) < 1_000_000


def test_a_difference_is_the_same_on_both_clocks() -> None:
    """Durations do not bend: only ``refresh`` changes the offset."""
    clock = Clock()
    assert clock.wall_ns(5_000) - clock.wall_ns(2_000) == 3_000


def test_a_stepped_wall_clock_is_followed_after_refresh() -> None:
    """``refresh`` measures the offset again."""
    clock = Clock()
    clock.offset_ns -= 3_600 * 10**9
    clock.refresh()
    assert abs(clock.wall_ns(clock.monotonic_ns()) - time.time_ns()) < 1_000_000


def test_a_fixed_clock_stands_until_it_is_moved() -> None:
    """Replay and tests decide what time it is."""
    clock = FixedClock(now_ns=10, offset_ns=1_000)
    clock.refresh()
    assert (clock.monotonic_ns(), clock.wall_ns(10)) == (10, 1_010)
    clock.advance(5)
    assert clock.monotonic_ns() == 15


def test_the_loops_clock_stands_still_and_follows_the_wall() -> None:
    """Between batches its time does not move; a refresh takes the machine's present offset."""
    clock = StepClock(5, offset_ns=7)
    assert (clock.monotonic_ns(), clock.wall_ns(5)) == (5, 12)
    clock.refresh()
    assert clock.monotonic_ns() == 5
    assert abs(clock.offset_ns - (time.time_ns() - time.monotonic_ns())) < 1_000_000_000
