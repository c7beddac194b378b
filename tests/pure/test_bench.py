"""The bench reports what it measured, and its synthetic ring is what the kernel side would have written."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bench import report
from bench.figures import FIGURES, Figure
from bench.ring import Exchanges
from otel_ebpf.kernel import layout

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("target", "more_is_better", "value", "met"),
    [(2.0, False, 2.0, True), (2.0, False, 2.1, False), (100.0, True, 99.99, False), (100.0, True, 100.0, True)],
)
def test_target_is_a_bound_on_one_side(target: float, *, more_is_better: bool, value: float, met: bool) -> None:
    """A target is met when the value is at it or on its good side."""
    assert Figure("name", "title", "s", target, more_is_better=more_is_better).met(value) is met


def test_figures_have_names_of_their_own() -> None:
    """No two figures share a name."""
    assert max(Counter(figure.name for figure in FIGURES).values()) == 1


def test_results_are_the_measured_figures_in_order_of_the_table(tmp_path: Path) -> None:
    """The file lists what was measured, with unit, target and verdict, and nothing else."""
    path = tmp_path / "out" / "results.json"
    report.write(path, {"start.capturing": 2.5, "rate.highest": 90000.0})
    assert json.loads(path.read_text()) == [
        {
            "name": "start.capturing",
            "value": 2.5,
            "unit": "s",
            "target": 2.0,
            "met": False,
            "reference": "OBI 5 to 10 s per process",
        },
        {"name": "rate.highest", "value": 90000.0, "unit": "1/s", "target": None, "met": None, "reference": ""},
    ]
    assert report.missed({"start.capturing": 2.5, "memory.idle": 70.0, "rate.highest": 1.0}) == ["start.capturing"]


def test_ring_has_one_whole_record_per_exchange() -> None:
    """A span holds as many turn records as were asked for, each with the parts that it says it has."""
    made = Exchanges(connections=4, paths=10)
    made.span(3, 10**9)
    span = made.span(9, 2 * 10**9)
    names = [name for name, _ in layout.TURN_RECORD.fields]
    turns = [
        (dict(zip(names, layout.TURN.unpack_from(span, at), strict=True)), span[at + layout.TURN.size : at + length])
        for at, length in layout.records_in(span)
    ]
    assert [turn["sequence"] for turn, _ in turns] == [1, 2, 2, 2, 2, 3, 3, 3, 3]
    for turn, data in turns:
        assert len(data) == turn["request_captured"] + turn["response_captured"]
        assert data.startswith(b"GET /api/users/")
        assert data[turn["request_captured"] :].startswith(b"HTTP/1.1 ")
        assert turn["response_bytes"] >= turn["response_captured"]
