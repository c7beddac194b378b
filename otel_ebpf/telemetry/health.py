"""The agent about itself: what its parts say when they are asked, once per collection.

In: callables of the agent. Out: values of the ``otel_ebpf.*`` and ``process.*`` instruments under the agent's Resource.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otel_ebpf.telemetry import instruments as table
from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.instruments import Instrument
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.series import Instant

Reading = tuple[wire.Attributes, int]
"""Attributes and the value now."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """What became of one hook."""

    hook: str
    kind: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class MapUse:
    """How full a kernel map is."""

    name: str
    entries: int
    capacity: int


@dataclass(frozen=True, slots=True)
class ProgramUse:
    """What a BPF program took since it was loaded."""

    name: str
    run_time_ns: int
    runs: int


def _nothing() -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whom to ask; what is not given is not told. A replay gives nothing that depends on the machine.

    Attributes:
        probes: Every hook and its state.
        flows: Flows in user space; None where there are none to count.
        maps: Kernel maps.
        programs: BPF programs.
        profile: The profile in force; empty: not told.
        process: CPU time by mode in ns, resident bytes.
    """

    probes: Callable[[], Iterable[ProbeState]] = _nothing
    flows: Callable[[], int] | None = None
    maps: Callable[[], Iterable[MapUse]] = _nothing
    programs: Callable[[], Iterable[ProgramUse]] = _nothing
    profile: Callable[[], str] = str
    process: Callable[[], tuple[dict[str, int], int]] | None = None


def process_use() -> tuple[dict[str, int], int]:
    """Return this process's CPU time in ns by mode, and its resident memory in bytes (``proc(5)``, statm)."""
    times = os.times()
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - once per collection, and the shortest way
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"user": round(times.user * 1e9), "system": round(times.system * 1e9)}, resident


class HealthCheck:
    """Observes the agent's instruments."""

    def __init__(self, health: Health, ledger: Ledger, aggregate: Aggregate) -> None:
        self._health = health
        self._ledger = ledger
        self._aggregate = aggregate

    def observe(self, now: Instant) -> None:
        """Ask everyone, and set what the instruments read."""
        for row, readings in self._readings():
            values = ((self._aggregate.own, attributes, value) for attributes, value in readings)
            self._aggregate.observe(row, values, now)

    def _readings(self) -> Iterable[tuple[Instrument, list[Reading]]]:
        rows = self._ledger.rows()
        yield table.RECORDS, [(_record(*key), n) for key, n in rows.items() if key[0] != "export"]
        yield table.EXPORTS, [(_export(*key), n) for key, n in rows.items() if key[0] == "export"]
        yield table.SERIES, [((), len(self._aggregate))]
        yield table.SERIES_FORGOTTEN, [((), self._aggregate.forgotten)]
        yield table.SERIES_REFUSED, [((), self._aggregate.refused)]
        yield from self._given()

    def _given(self) -> Iterable[tuple[Instrument, list[Reading]]]:
        health = self._health
        yield table.PROBES, [(_probe(state), 1) for state in health.probes()]
        if health.flows is not None:
            yield table.FLOWS, [((), health.flows())]
        maps, programs, profile = list(health.maps()), list(health.programs()), health.profile()
        yield table.MAP_ENTRIES, [(((names.MAP, use.name),), use.entries) for use in maps]
        yield table.MAP_CAPACITY, [(((names.MAP, use.name),), use.capacity) for use in maps]
        yield table.PROGRAM_TIME, [(((names.PROGRAM, use.name),), use.run_time_ns) for use in programs]
        yield table.PROGRAM_RUNS, [(((names.PROGRAM, use.name),), use.runs) for use in programs]
        yield table.PROFILE, [(((names.PROFILE, profile),), 1)] if profile else []
        if health.process is not None:
            times, resident = health.process()
            yield table.CPU_TIME, [(((names.CPU_MODE, mode),), ns) for mode, ns in times.items()]
            yield table.MEMORY_USAGE, [((), resident)]


def _record(stage: str, outcome: str, reason: str) -> wire.Attributes:
    found = ((names.STAGE, stage), (names.OUTCOME, outcome))
    return (*found, (names.REASON, reason)) if reason else found


def _export(_: str, outcome: str, signal: str) -> wire.Attributes:
    return ((names.SIGNAL, signal), (names.OUTCOME, outcome))


def _probe(state: ProbeState) -> wire.Attributes:
    found = ((names.HOOK, state.hook), (names.KIND, state.kind), (names.STATE, state.state))
    return (*found, (names.REASON, state.reason)) if state.reason else found
