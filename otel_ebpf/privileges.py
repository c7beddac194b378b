"""Privileges: which capabilities this process has, and what each one is good for.

In: ``/proc/self/status``. Out: rows for ``otel-ebpf check``, and the sentence for who has too few.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

SYS_ADMIN: Final = 21


@dataclass(frozen=True, slots=True)
class Capability:
    """One row of the table.

    Attributes:
        name: As capabilities(7) calls it, without ``CAP_``.
        number: Its bit.
        purpose: What the agent does with it.
        lost_without: What cannot be told without it.
        covered: Whether SYS_ADMIN does as well.
    """

    name: str
    number: int
    purpose: str
    lost_without: str
    covered: bool = False


CAPABILITIES: Final = (
    Capability("BPF", 39, "load programs and maps", "nothing can be captured", covered=True),
    Capability("PERFMON", 38, "attach programs and read kernel memory", "nothing can be captured", covered=True),
    Capability(
        "SYS_PTRACE",
        19,
        "read the executable's path of other users' processes",
        "their workloads are named by what the process calls itself",
    ),
    Capability(
        "DAC_READ_SEARCH", 2, "read Docker's own files", "Docker containers are named by their executable, not by name"
    ),
)
_NEEDED: Final = ("BPF", "PERFMON")


@dataclass(frozen=True, slots=True)
class Privilege:
    """A capability, and whether this process has it."""

    name: str
    held: bool
    purpose: str
    lost: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def privileges(status: str) -> tuple[Privilege, ...]:
    """Return every row of the table as ``/proc/<pid>/status`` (proc(5): CapEff) answers it."""
    effective = _effective(status)
    return tuple(
        Privilege(row.name, held, row.purpose, "" if held else row.lost_without)
        for row in CAPABILITIES
        for held in [_holds(effective, row)]
    )


def can_capture(status: str) -> bool:
    """Tell whether the capabilities suffice to load and attach programs."""
    return all(row.held for row in privileges(status) if row.name in _NEEDED)


def own_status(proc: Path = Path("/proc")) -> str:
    """Return this process's ``/proc/self/status``; empty when there is no procfs."""
    try:
        return proc.joinpath("self", "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _effective(status: str) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _holds(effective: int, row: Capability) -> bool:
    return bool(effective >> row.number & 1) or (row.covered and bool(effective >> SYS_ADMIN & 1))
