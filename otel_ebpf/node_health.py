"""What the kernel side says about itself when telemetry asks, once per collection.

In: the loaded programs and maps. Out: the callables of :class:`~otel_ebpf.telemetry.health.Health`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_ebpf.kernel import bpf
from otel_ebpf.telemetry.health import Health, MapUse, ProbeState, ProgramUse, process_use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_ebpf.config import Settings
    from otel_ebpf.kernel.capture import Capture
    from otel_ebpf.kernel.handover import Loaded
    from otel_ebpf.kernel.probes import OutcomeRow


def node_health(loaded: Loaded, capture: Capture, settings: Settings) -> Health:
    """Return whom to ask on a live node."""
    states = tuple(_state(row) for row in loaded.report)
    return Health(
        probes=lambda: states,
        flows=lambda: capture.map_use()["flows"][0],
        maps=lambda: [MapUse(name, *use) for name, use in capture.map_use().items()],
        programs=lambda: _programs(loaded),
        profile=lambda: settings.profile,
        process=process_use,
    )


def _state(row: OutcomeRow) -> ProbeState:
    return ProbeState(row.hook, row.chosen or "", row.state.value, row.lost)


def _programs(loaded: Loaded) -> Iterator[ProgramUse]:
    """Programs that the kernel has timed: it does so only while somebody asks it to (``kernel.bpf_stats_enabled``)."""
    for name, fd in loaded.programs.items():
        info = bpf.program_info(fd)
        if info.run_count:
            yield ProgramUse(name, info.run_time_ns, info.run_count)
