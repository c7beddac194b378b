"""Reading maps as Python values.

In: map descriptors. Out: numbers.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Final

from otel_ebpf.kernel import bpf

_POSSIBLE: Final = Path("/sys/devices/system/cpu/possible")


@cache
def possible_cpus() -> int:
    """How many CPUs the kernel has room for: as many values has each key of a per-CPU map."""
    return cpus_in(_POSSIBLE.read_text(encoding="ascii"))


def cpus_in(ranges: str) -> int:
    """Number of CPUs that a list such as ``0-3,8-11`` names, holes included, as per-CPU maps count them."""
    return 1 + int(ranges.strip().rpartition(",")[2].rpartition("-")[2])


class CounterArray:
    """A per-CPU array of ``u64``.

    Raises:
        OSError: The map cannot be asked.
    """

    def __init__(self, map_fd: int) -> None:
        self._fd = map_fd
        self._entries = bpf.map_info(map_fd).max_entries
        self._values = struct.Struct(f"<{possible_cpus()}Q")

    def totals(self) -> tuple[int, ...]:
        """Sum over the CPUs of each entry, in order."""
        return tuple(self._total(index) for index in range(self._entries))

    def _total(self, index: int) -> int:
        raw = bpf.lookup(self._fd, struct.pack("<I", index), self._values.size)
        return sum(self._values.unpack(raw)) if raw else 0
