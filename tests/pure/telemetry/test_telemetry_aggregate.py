"""Aggregates: temporality, start times, the cardinality limit, age."""

from __future__ import annotations

from typing import Any

import pytest

from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.series import Instant, Resource
from tests.pure.telemetry.making import S, workload

OWN = Resource(workload("agent"))


def at(second: int) -> Instant:
    """Return a moment; both clocks are the same here."""
    return Instant(second * S, second * S)


def make(limit: int = 2000, ttl_s: int = 300, temporality: str = "cumulative") -> Aggregate:
    """Return an empty aggregate."""
    return Aggregate(OWN, limit=limit, ttl_ns=ttl_s * S, temporality=temporality)


def told(aggregate: Aggregate, now_s: int) -> list[tuple[str, dict[str, Any], int, int, Any]]:
    """Collect, and return service, attributes, start, end and value of every point."""
    snapshot = aggregate.collect(at(now_s))
    return [
        (dict(resource.attributes)["service.name"], dict(p.labels.attributes), p.start_ns // S, p.time_ns // S, p.value)
        for resource, metrics in snapshot.rows
        for metric in metrics
        for p in metric.points
    ]


def add(aggregate: Aggregate, n: int, now_s: int, key: str = "a", service: str = "web") -> None:
    """Add to a counter."""
    resource = aggregate.resource(workload(service))
    aggregate.number(table.RESETS, resource, (("k", key),), at(now_s)).value += n


def test_cumulative_totals_keep_their_start() -> None:
    """A cumulative counter tells its total since it was first seen, idle or not."""
    aggregate = make()
    add(aggregate, 2, 10)
    assert told(aggregate, 20) == [("web", {"k": "a"}, 10, 20, 2)]
    add(aggregate, 3, 25)
    assert told(aggregate, 30) == [("web", {"k": "a"}, 10, 30, 5)]
    assert told(aggregate, 40) == [("web", {"k": "a"}, 10, 40, 5)]


def test_delta_tells_differences_without_gaps() -> None:
    """In delta temporality each interval begins where the last one ended, and an idle series says nothing."""
    aggregate = make(temporality="delta")
    add(aggregate, 2, 10)
    assert told(aggregate, 20) == [("web", {"k": "a"}, 10, 20, 2)]
    assert told(aggregate, 30) == []
    add(aggregate, 3, 35)
    assert told(aggregate, 40) == [("web", {"k": "a"}, 30, 40, 3)]


def test_a_new_counter_at_zero_is_told_once() -> None:
    """A counter that exists but has not counted yet is told as 0."""
    aggregate = make(temporality="delta")
    add(aggregate, 0, 10)
    assert told(aggregate, 20) == [("web", {"k": "a"}, 10, 20, 0)]
    assert told(aggregate, 30) == []


@pytest.mark.parametrize(("temporality", "delta"), [("cumulative", []), ("delta", [1, 2, 4]), ("lowmemory", [1, 4])])
def test_which_instruments_are_differences(temporality: str, delta: list[int]) -> None:
    """Delta: counters and histograms; lowmemory: not the observed counters; what can go down: never."""
    aggregate = make(temporality=temporality)
    rows = (table.CONNECTIONS_ACTIVE, table.RESETS, table.RECORDS, table.PROFILE, table.RTT)
    assert [index for index, row in enumerate(rows) if aggregate.is_delta(row)] == delta


def test_idle_series_are_forgotten_and_start_anew() -> None:
    """A series idle for the TTL is forgotten; when it comes back it has a new start and counts from 0."""
    aggregate = make(ttl_s=60)
    add(aggregate, 2, 10)
    assert len(told(aggregate, 20)) == 1
    assert len(told(aggregate, 79)) == 1
    assert len(told(aggregate, 80)) == 1
    assert told(aggregate, 90) == []
    assert (len(aggregate), aggregate.forgotten) == (0, 1)
    add(aggregate, 1, 95)
    assert told(aggregate, 100) == [("web", {"k": "a"}, 95, 100, 1)]


def test_overflow_goes_to_one_series_per_workload() -> None:
    """Beyond the limit attribute sets become one overflow series of their workload; nothing is lost."""
    aggregate = make(limit=3)
    for index in range(10):
        add(aggregate, 1, 10, key=str(index))
    add(aggregate, 5, 10, key="x", service="other")
    points = told(aggregate, 20)
    assert points == [
        ("web", {"k": "0"}, 10, 20, 1),
        ("web", {"k": "1"}, 10, 20, 1),
        ("web", {"otel.metric.overflow": True}, 10, 20, 8),
        ("other", {"otel.metric.overflow": True}, 10, 20, 5),
    ]
    assert aggregate.refused == 9


def test_overflow_of_too_many_workloads_is_the_agents() -> None:
    """Workloads beyond the limit share one overflow series under the agent's Resource."""
    aggregate = make(limit=2)
    for index in range(10):
        add(aggregate, 1, 10, service=f"w{index}")
    points = told(aggregate, 20)
    assert len(points) == 4
    assert points[-1] == ("agent", {"otel.metric.overflow": True}, 10, 20, 7)
    assert sum(point[-1] for point in points) == 10


def test_room_comes_back_when_series_are_forgotten() -> None:
    """The limit counts living series only."""
    aggregate = make(limit=3, ttl_s=10)
    for key in "ab":
        add(aggregate, 1, 10, key=key)
    told(aggregate, 20)
    told(aggregate, 40)
    add(aggregate, 1, 50, key="c")
    assert told(aggregate, 60) == [("web", {"k": "c"}, 50, 60, 1)]


def test_http_series_of_both_roles_share_the_limit() -> None:
    """Instruments that both roles feed have no more attribute sets than the limit."""
    aggregate = make(limit=3)
    resource = aggregate.resource(workload("web"))
    for role in ("server", "client"):
        for index in range(5):
            series = aggregate.http[role].get(resource, (("k", index),), at(0))
            series.pending += [1, 1, 1, 1, 1, 1]
    snapshot = aggregate.collect(at(1))
    [(_, metrics)] = snapshot.rows
    sizes = {metric.instrument.name: len(metric.points) for metric in metrics}
    assert sizes[table.SERVER_DURATION.name] == 3
    assert sizes[table.TIME_TO_FIRST_BYTE.name] == 4
    assert sizes[table.CLIENT_DURATION.name] == 1


def observe(aggregate: Aggregate, row: table.Instrument, now_s: int, **values: int) -> None:
    """Observe values by key."""
    aggregate.observe(row, [(OWN, (("k", key),), value) for key, value in values.items()], at(now_s))


def test_observed_updowncounter_goes_to_zero_then_away() -> None:
    """What is not observed any more is 0, and is forgotten after the TTL."""
    aggregate = make(ttl_s=60)
    observe(aggregate, table.CONNECTIONS_ACTIVE, 10, a=4)
    assert told(aggregate, 10) == [("agent", {"k": "a"}, 10, 10, 4)]
    observe(aggregate, table.CONNECTIONS_ACTIVE, 20)
    assert told(aggregate, 20) == [("agent", {"k": "a"}, 10, 20, 0)]
    observe(aggregate, table.CONNECTIONS_ACTIVE, 90)
    told(aggregate, 90)
    assert len(aggregate) == 0


def test_observed_gauge_goes_away_at_once() -> None:
    """A gauge that is not observed is not told."""
    aggregate = make()
    observe(aggregate, table.PROFILE, 10, light=1)
    told(aggregate, 10)
    observe(aggregate, table.PROFILE, 20, deep=1)
    assert told(aggregate, 20) == [("agent", {"k": "deep"}, 20, 20, 1)]


def test_observed_values_of_equal_attributes_add_up() -> None:
    """Two readings with the same attributes are one point."""
    aggregate = make()
    aggregate.observe(table.CONNECTIONS_ACTIVE, [(OWN, (), 2), (OWN, (), 3)], at(1))
    assert told(aggregate, 1)[0][-1] == 5


def test_observed_constant_is_not_idle() -> None:
    """A value that is observed again and again lives on although it never changes."""
    aggregate = make(ttl_s=60)
    for now_s in range(0, 300, 30):
        observe(aggregate, table.MAP_CAPACITY, now_s, flows=4096)
        assert told(aggregate, now_s) == [("agent", {"k": "flows"}, 0, now_s, 4096)]


def test_observed_counter_in_delta_tells_what_it_grew() -> None:
    """The difference of an observed total is told in delta temporality."""
    aggregate = make(temporality="delta")
    observe(aggregate, table.PROGRAM_RUNS, 10, a=100)
    assert told(aggregate, 10)[0][-1] == 100
    observe(aggregate, table.PROGRAM_RUNS, 20, a=130)
    assert told(aggregate, 20)[0][-1] == 30
