"""Starting the kernel side of the agent.

In: the settings that concern the kernel. Out: what was loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_ebpf.kernel import handover, layout
from otel_ebpf.kernel.handover import Loaded, LoadRequest

_FLOWS_PER_EXCHANGE: Final = 6  # one connection in six speaks HTTP/1 at one time; an entry takes 3.5 KiB
_FEWEST_EXCHANGES: Final = 64
_NOBODY: Final = 0xFFFFFFFF


def load(ring_bytes: int, max_flows: int, probes_off: tuple[str, ...], agent_tgid: int) -> Loaded:
    """Compile, load and attach.

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
        "MAX_EXCHANGES": max(_FEWEST_EXCHANGES, max_flows // _FLOWS_PER_EXCHANGE),
        "AGENT_TGID": agent_tgid or _NOBODY,
    }
    return handover.load(LoadRequest(directory(), defines, probes_off))


def directory() -> str:
    """Return the folder of the BPF sources as a path: the compiler needs a real one."""
    return str(Path(os.fspath(layout.bpf_directory())).resolve())  # type: ignore[call-overload]
