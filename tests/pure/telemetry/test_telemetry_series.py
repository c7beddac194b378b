"""Histograms count right, one by one or in bulk."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.telemetry.instruments import SIZE_BOUNDS
from otel_ebpf.telemetry.series import Histogram

VALUES = st.lists(st.integers(-1, 1 << 28), max_size=60)


@given(st.lists(VALUES, max_size=4))
def test_folding_is_counting_one_by_one(batches: list[list[int]]) -> None:
    """However values are batched, the buckets are those of a plain count, and -1 is nowhere."""
    bulk, single = Histogram(SIZE_BOUNDS), Histogram(SIZE_BOUNDS)
    for batch in batches:
        bulk.fold(list(batch))
    known = [value for batch in batches for value in batch if value >= 0]
    for value in known:
        single.add(value)
    assert bulk.value() == single.value()
    expected = [0] * (len(SIZE_BOUNDS) + 1)
    for value in known:
        expected[bisect_left(SIZE_BOUNDS, value)] += 1
    assert list(bulk.value().counts) == expected
    assert (bulk.count, bulk.total) == (len(known), sum(known))
    assert not known or (bulk.low, bulk.high) == (min(known), max(known))


def test_a_bound_belongs_to_the_bucket_below() -> None:
    """A value equal to a bound is counted at or under it, as OTLP defines bounds."""
    histogram = Histogram((10, 20))
    histogram.fold([10, 20, 21, 0])
    assert histogram.counts == [2, 1, 1]
