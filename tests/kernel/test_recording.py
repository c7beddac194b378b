"""Recording: what a run tells live is what its recording tells later."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.agent import EVERYTHING, agent_command, running_agent
from tests.support.otlp import Telemetry
from tests.support.servers import nginx
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS: Final = 200
# Of a live agent only: its own health has no meaning in a replay.
OWN: Final = ("otel_ebpf.", "process.")


@dataclass(frozen=True, slots=True)
class Twice:
    """The same traffic, told while it happened and from its recording."""

    live: Telemetry
    replayed: Telemetry
    port: int


@pytest.fixture(scope="module", params=["cumulative", "delta"])
def twice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """A known workload, recorded while everything is exported, then replayed."""
    folder = tmp_path_factory.mktemp("twice")
    settings = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": request.param}
    recording = folder / "x.rec"
    with (
        nginx(folder / "nginx") as server,
        running_agent(folder / "agent", settings, command=("record", str(recording))) as agent,
    ):
        KnownWorkload(REQUESTS).run_apart(server.host, server.port)
        live = agent.finished()
        return Twice(live, _replayed(recording, folder / "replay.jsonl", settings), server.port)


def _replayed(recording: Path, out: Path, settings: dict[str, str]) -> Telemetry:
    environment = {**os.environ, **EVERYTHING, **settings, "OTEL_EBPF_OTLP_FILE": str(out)}
    subprocess.run([*agent_command(), "replay", recording], env=environment, check=True, timeout=60)
    return Telemetry.of_file(out)


def test_the_recording_holds_the_workload(twice: Twice) -> None:
    """Both ends of every exchange are in the replay."""
    for role in ("client", "server"):
        told = twice.replayed.exchange_counts(role, server__port=twice.port)
        assert told == KnownWorkload(REQUESTS).expected()


def test_log_records_are_the_same(twice: Twice) -> None:
    """Every log record of the live run is in the replay with the same ids, times and attributes, in the same order."""
    assert twice.live.logs == twice.replayed.logs


def test_spans_are_the_same(twice: Twice) -> None:
    """Every span of the live run is in the replay with the same ids, times and attributes, in the same order."""
    assert twice.live.spans == twice.replayed.spans


def test_metrics_of_workloads_are_the_same(twice: Twice) -> None:
    """Every series of every workload has the same total and the same count of measurements in both."""
    assert _workload_series(twice.live) == _workload_series(twice.replayed)


def test_the_account_is_the_same(twice: Twice) -> None:
    """The ledger of the replay tells the same fates of exchanges and of what the kernel handed over."""
    stages = ("exchange", "segment", "kernel.turn", "kernel.segment", "kernel.flow", "log", "span")
    for stage in stages:
        assert _account(twice.live, stage) == _account(twice.replayed, stage)


def _workload_series(told: Telemetry) -> dict[tuple[Any, ...], tuple[float, int]]:
    metrics = {point.metric for point in told.points if not point.metric.startswith(OWN)}
    found: dict[tuple[Any, ...], tuple[float, int]] = {}
    for metric in metrics:
        for (resource, attributes, _), totals in told.series(metric).items():
            found[metric, resource, attributes] = totals
    return found


def _account(told: Telemetry, stage: str) -> dict[tuple[Any, ...], tuple[float, int]]:
    rows = told.series("otel_ebpf.records", stage=stage)
    return {attributes: totals for (_, attributes, _), totals in rows.items()}
