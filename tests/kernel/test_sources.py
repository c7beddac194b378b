"""The kernel suite on this kernel, once for each source of payload that it allows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.expectations import check_suite
from tests.kernel.suite import run

_SOURCES = {"tp_btf": (), "syscall": ("payload.tp_btf",)}


@pytest.fixture(scope="module", params=_SOURCES)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one run of the suite saw, by source."""
    seen = run(_SOURCES[request.param])
    assert seen["report"]["payload"] == request.param
    return seen


def test_all_exchanges_are_seen_exactly(result: dict[str, Any]) -> None:
    """Both ends of every exchange have the right method, target, status and sizes, and nothing else is seen."""
    check_suite(result)


def test_accept_wait_is_known_for_every_server_connection(result: dict[str, Any]) -> None:
    """Every connection that the server closed was accepted at a known time."""
    assert result["accepts"] == len([row for row in result["totals"] if row[0] == "server"])


def test_nothing_is_lost_or_faulty(result: dict[str, Any]) -> None:
    """The ring refused nothing, no map was full, no payload that the kernel holds was unreadable."""
    lost = (1, 3, 5, 7, 8, 9, 10, 11, 15)
    assert [result["counters"][index] for index in lost] == [0] * len(lost)
