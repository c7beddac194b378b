"""The cgroup tree: from the id that the kernel takes with every flow to the container, also of processes that are gone.

In: the directories of the cgroup2 mount; a directory's inode number is the cgroup's id. Out: containers by id.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_ebpf.clock import Clock
from otel_ebpf.enrich.container import container_of
from otel_ebpf.enrich.facts import ContainerFacts

ROOT_CGROUP_ID: Final = 1  # what kernfs gives the root of every hierarchy
MAX_DIRECTORIES: Final = (
    20_000  # 110 pods of a few containers make about a thousand; this many take a quarter of a second
)
MAX_DEPTH: Final = 24  # Docker in Kubernetes in Docker stands at 12
MAX_CONTAINERS: Final = (
    8_192  # the dead are remembered: records of a container that has just ended still have to be named
)
_LEAST_PAUSE_NS: Final = 200_000_000
_PAUSE_RATIO: Final = 50  # a scan may cost at most 2 % of the time


class CgroupTree:
    """Containers by cgroup id. An id not seen before makes it read the tree again, but not too often."""

    def __init__(self, root: Path | None, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._containers: dict[int, ContainerFacts] = {}
        self._others: frozenset[int] = frozenset()
        self._next_scan_ns = 0

    def container(self, cgroup_id: int) -> ContainerFacts | None:
        """Return the container of *cgroup_id*; None when it is none, or not known yet."""
        found = self._containers.get(cgroup_id)
        if found is not None or cgroup_id in (0, ROOT_CGROUP_ID) or cgroup_id in self._others:
            return found
        self._scan()
        return self._containers.get(cgroup_id)

    def _scan(self) -> None:
        started_ns = self._clock.monotonic_ns()
        if self._root is None or started_ns < self._next_scan_ns:
            return
        found = {inode: container_of(path) for inode, path in directories(self._root)}
        if len(self._containers) > MAX_CONTAINERS:
            self._containers.clear()
        self._containers.update((inode, facts) for inode, facts in found.items() if facts is not None)
        self._others = frozenset(inode for inode, facts in found.items() if facts is None)
        ended_ns = self._clock.monotonic_ns()
        self._next_scan_ns = ended_ns + max(_LEAST_PAUSE_NS, _PAUSE_RATIO * (ended_ns - started_ns))


def directories(root: Path) -> Iterator[tuple[int, str]]:
    """Yield inode number and path (below *root*, with a leading slash) of every directory, breadth first, bounded."""
    level = [""]
    seen = 0
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        for path in level:
            for inode, name in _children(f"{root}{path}"):
                seen += 1
                if seen > MAX_DIRECTORIES:
                    return
                below.append(f"{path}/{name}")
                yield inode, below[-1]
        level = below


def _children(path: str) -> list[tuple[int, str]]:
    try:
        with os.scandir(path) as entries:
            return [(entry.inode(), entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # the group was removed meanwhile
        return []


def mount_of_ids(mountinfo: bytes) -> Path | None:
    """Return where the hierarchy is mounted that cgroup ids belong to: cgroup2, else the memory controller's of v1.

    Args:
        mountinfo: ``/proc/self/mountinfo`` (proc(5): field 5 is the mount point; type, source, options follow a ``-``).
    """
    memory: Path | None = None
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(b" - ")
        fields, kinds = place.split(), kind.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        point = Path(os.fsdecode(fields[4]))
        if kinds[0] == b"cgroup2":
            return point
        if kinds[0] == b"cgroup" and b"memory" in kinds[2].split(b","):
            memory = point
    return memory
