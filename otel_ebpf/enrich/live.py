"""The live facts of this machine: ``/proc``, the cgroup tree, Docker's own state.

Each answer costs at most a few small reads of one process; the cgroup tree is read again only for ids not seen before.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_ebpf.clock import Clock
from otel_ebpf.enrich.cgroup_tree import CgroupTree, mount_of_ids
from otel_ebpf.enrich.container import container_of_process, docker_name
from otel_ebpf.enrich.facts import ContainerFacts, HostFacts, ProcessFacts
from otel_ebpf.enrich.network import local_addresses
from otel_ebpf.enrich.process import Processes, in_root_pid_namespace, keep

MAX_ANSWERS: Final = 8_192  # containers by process, for records that arrive when the process is gone


class LiveFacts:
    """The source of facts on a real node.

    Args:
        clock: Limits how often the cgroup tree is read.
        proc: Where procfs is mounted.
        docker: Docker's data root.
    """

    def __init__(self, clock: Clock, *, proc: Path = Path("/proc"), docker: Path = Path("/var/lib/docker")) -> None:
        self._proc = proc
        self._docker = docker
        self._processes = Processes(proc)
        self._tree = CgroupTree(mount_of_ids(_read(proc / "self" / "mountinfo")), clock)
        self._by_process: OrderedDict[tuple[int, int], ContainerFacts] = OrderedDict()
        self._names: OrderedDict[str, str | None] = OrderedDict()

    def host(self) -> HostFacts:
        """Return the host name and where the agent itself stands."""
        try:
            netns = self._proc.joinpath("self/ns/net").stat().st_ino
        except OSError:
            netns = 0
        return HostFacts(socket.gethostname(), os.getpid() if in_root_pid_namespace(self._proc) else 0, netns)

    def process(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return the executable of a process, or what it was called."""
        return self._processes.facts(tgid, comm)

    def container(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        """Return the container by cgroup id, else by what the process says of itself (v1 hierarchies)."""
        found = self._tree.container(cgroup_id) or self._of_process(cgroup_id, tgid)
        return found and self._named(found)

    def addresses(self, tgid: int) -> tuple[bytes, ...]:
        """Return the addresses of the process's network namespace, from its routing tables."""
        return local_addresses(self._proc, tgid)

    def _of_process(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        found = container_of_process(_read(self._proc / str(tgid) / "cgroup")) if tgid else None
        if found is None:
            return self._by_process.get((cgroup_id, tgid))
        keep(self._by_process, (cgroup_id, tgid), found, MAX_ANSWERS)
        return found

    def _named(self, facts: ContainerFacts) -> ContainerFacts:
        if facts.pod_uid is not None:  # Kubernetes names it better than its runtime
            return facts
        if facts.id not in self._names:
            keep(self._names, facts.id, docker_name(self._docker, facts.id), MAX_ANSWERS)
        return replace(facts, name=self._names[facts.id])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
