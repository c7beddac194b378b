"""Which exchanges are told one by one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pure.telemetry.making import CLIENT, MS, SERVER, Bench, S, bench, exchange


def run(b: Bench, times: int, **values: Any) -> list[int]:
    """Count exchanges as the intake does, and return the numbers of those that were asked for in detail."""
    asked = []
    for index in range(times):
        if b.count(b"GET /a HTTP/1.1", b"200", **values):
            asked.append(index)
            b.telemetry.detail(exchange(sequence=index + 1))
    b.telemetry.shutdown()
    return asked


def test_one_in_n_is_exact() -> None:
    """Of ordinary exchanges exactly one in N is told, as log record and as span."""
    b = bench(notable_ratio=7)
    assert run(b, 50) == [6, 13, 20, 27, 34, 41, 48]
    assert len(b.kept.logs()) == len(b.kept.spans()) == 7


def test_one_in_more_than_a_round() -> None:
    """N may be larger than what is folded at once."""
    b = bench(notable_ratio=20_000)
    assert len(run(b, 50_000)) == 2


def test_every_one_of_one() -> None:
    """One in one is all."""
    assert run(bench(notable_ratio=1), 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["all", "off"])
def test_all_and_off(mode: str) -> None:
    """All is every exchange, off is none, slow or not."""
    b = bench(exchange_logs=mode, exchange_spans=mode, notable_ratio=1)
    asked = run(b, 5, duration_ns=100 * S)
    assert len(asked) == len(b.kept.logs()) == len(b.kept.spans()) == (5 if mode == "all" else 0)


def test_slow_ones_are_notable() -> None:
    """An exchange at the threshold is slow, one below it is not."""
    b = bench(slow_threshold_s=0.5)
    assert not b.count(duration_ns=500 * MS - 1)
    assert b.count(duration_ns=500 * MS)


@pytest.mark.parametrize(
    ("edge", "status", "notable"),
    [(SERVER, b"404", False), (SERVER, b"500", True), (CLIENT, b"404", True), (CLIENT, b"399", False)],
)
def test_errors_are_notable(edge: bytes, status: bytes, *, notable: bool) -> None:
    """What the conventions call an error is notable: 5xx, and 4xx for the client."""
    assert bench().count(status=status, edge=edge) is notable


def test_signals_have_policies_of_their_own() -> None:
    """With all logs and notable spans, one in N has a span and every exchange a log record."""
    b = bench(exchange_logs="all", exchange_spans="notable", notable_ratio=10)
    assert len(run(b, 100)) == 100
    assert (len(b.kept.logs()), len(b.kept.spans())) == (100, 10)


def test_a_signal_without_exporter_is_off() -> None:
    """Nothing is made for a signal that goes nowhere."""
    b = bench(signals="metrics", exchange_logs="all", exchange_spans="all")
    assert run(b, 10) == []
    assert b.ledger.total("log", "sampled_out", "off") == 10
