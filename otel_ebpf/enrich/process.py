"""Processes: the executable behind a process id, as long as the process is there to be asked, and after.

In: ``/proc/<tgid>``. Out: :class:`ProcessFacts`. Process ids are reused, so an answer is kept with the
start time of its process.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from otel_ebpf.enrich.facts import ProcessFacts, printable

K = TypeVar("K")
V = TypeVar("V")

# A node runs a few hundred long-lived processes; the rest are short-lived ones that the next lookup finds gone anyway.
MAX_PROCESSES: Final = 4096
# Inode number of the first pid namespace, fixed by the kernel (include/linux/proc_ns.h: PROC_PID_INIT_INO).
ROOT_PID_NAMESPACE: Final = 0xEFFFFFFC
_DELETED: Final = b" (deleted)"  # what the kernel adds to the link of an executable that was replaced (an upgrade)


@dataclass(frozen=True, slots=True)
class _Known:
    started: int
    comm: bytes
    facts: ProcessFacts


class Processes:
    """Answers by process id, bounded, right even when a process id is used again."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._readable = in_root_pid_namespace(proc)
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._by_comm: OrderedDict[bytes, ProcessFacts] = OrderedDict()

    def facts(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return what is known of *tgid*, which the kernel saw under the name *comm*."""
        if not self._readable:  # the ids of records are another namespace's: the same number would be another process
            return ProcessFacts(printable(comm))
        known = self._known.get(tgid)
        started = start_ticks(self._proc, tgid)
        if known is not None and known.comm == comm and started in (known.started, None):
            self._known.move_to_end(tgid)
            return known.facts
        return self._gone(comm) if started is None else self._read(tgid, comm, started)

    def _gone(self, comm: bytes) -> ProcessFacts:
        """Name a process that ended too early like the last one of the same comm: short-lived ones come in rows."""
        return self._by_comm.get(comm) or ProcessFacts(printable(comm))

    def _read(self, tgid: int, comm: bytes, started: int) -> ProcessFacts:
        executable = read_executable(self._proc, tgid)
        if executable is None:
            return self._gone(comm)
        name = executable.rpartition(b"/")[2]
        if read_comm(self._proc, tgid) not in (comm, None) and not name.startswith(comm):
            # The id is another process's now, or the process has started another program since it was seen.
            return self._gone(comm)
        facts = ProcessFacts(printable(name), printable(executable))
        keep(self._known, tgid, _Known(started, comm, facts), MAX_PROCESSES)
        if comm:
            keep(self._by_comm, comm, facts, MAX_PROCESSES)
        return facts


def keep(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Put *value* in as the latest; the least recently used one goes when there are more than *limit*."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)


def in_root_pid_namespace(proc: Path) -> bool:
    """Tell whether *proc* shows the process ids that the kernel side sees."""
    try:
        return proc.joinpath("self/ns/pid").stat().st_ino == ROOT_PID_NAMESPACE
    except OSError:
        return False


def start_ticks(proc: Path, tgid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22); None when there is none."""
    stat = _content(proc / str(tgid) / "stat")
    # Field 2 is the name in brackets and may hold anything; behind the last bracket stand fields 3 and on.
    fields = stat.rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def read_comm(proc: Path, tgid: int) -> bytes | None:
    """Return the present name of a process, None when there is none."""
    return _content(proc / str(tgid) / "comm").rstrip(b"\n") or None


def read_executable(proc: Path, tgid: int) -> bytes | None:
    """Return the full path of a process's executable; None for kernel threads, or without permission."""
    try:
        path = os.fsencode((proc / str(tgid) / "exe").readlink())
    except OSError:
        return None
    return path.removesuffix(_DELETED)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
