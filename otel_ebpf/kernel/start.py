"""Starting the kernel side: which sources to compile, and a second try with all of them.

In: the settings that concern the kernel. Out: what was loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_ebpf.kernel import handover, layout
from otel_ebpf.kernel.handover import Loaded, LoadRequest
from otel_ebpf.kernel.probes import State

_EXCHANGES_PER_FLOW: Final = 4  # one connection in four speaks HTTP/1 at one time; an entry takes 2.4 KiB


def load(ring_bytes: int, max_flows: int, probes_off: tuple[str, ...], agent_tgid: int) -> Loaded:
    """Compile, load and attach.

    A kernel with the socket tracepoints needs no other source of payload, and compiling them would double the time to start. Only when
    those are switched off, or refused, everything is compiled.

    Args:
        ring_bytes: Size of the ring, a power of two.
        max_flows: Connections tracked at once.
        probes_off: Hooks and alternatives the user does not want.
        agent_tgid: Process whose own connections are not watched; 0: none.

    Raises:
        CannotRun: Nothing can be loaded here; the text says why.
        SettingError: *probes_off* names no hook.
    """
    defines = {
        **handover.size_defines(ring_bytes, max_flows),
        "MAX_EXCHANGES": max(64, max_flows // _EXCHANGES_PER_FLOW),
        "AGENT_TGID": agent_tgid or 0xFFFFFFFF,
    }
    wants_all = any(name.startswith("payload") for name in probes_off)
    loaded = _load(defines, probes_off, all_sources=wants_all)
    if wants_all or _has_payload(loaded):
        return loaded
    loaded.close()
    return _load(defines, probes_off, all_sources=True)


def _load(defines: dict[str, int], probes_off: tuple[str, ...], *, all_sources: bool) -> Loaded:
    return handover.load(LoadRequest(directory(), {**defines, "ALL_SOURCES": int(all_sources)}, probes_off))


def _has_payload(loaded: Loaded) -> bool:
    return any(row.hook == "payload" and row.state is State.ON for row in loaded.report)


def directory() -> str:
    """Return the folder of the BPF sources as a path: the compiler needs a real one."""
    return str(Path(os.fspath(layout.bpf_directory())).resolve())  # type: ignore[call-overload]
