"""Facts: what the machine says about a process, a container and itself, as values that can be recorded.

In: process and cgroup ids of records. Out: names. The live source is :mod:`otel_ebpf.enrich.live`; a recording has
its own, so that a replay names the same workloads on another machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

# Answers kept for a recording; a recording of more edges than this names the later ones by their comm alone.
MAX_LOGGED: Final = 65_536


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process.

    Attributes:
        name: File name of the executable; the comm when the executable cannot be read; empty when nothing is known.
        executable: Full path of the executable; None when it cannot be read (gone, or no permission).
    """

    name: str
    executable: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container.

    Attributes:
        id: Its id, 64 hexadecimal digits for every common runtime.
        runtime: docker, containerd, cri-o, podman; None when the path does not tell.
        pod_uid: UID of its Kubernetes pod (for static pods the hash of their manifest).
        name: The name its runtime knows it by.
    """

    id: str
    runtime: str | None = None
    pod_uid: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine, and the agent on it.

    Attributes:
        name: Host name.
        agent_tgid: Process id of the agent in the root namespace; 0 when unknown.
        agent_netns: Inode number of its network namespace; 0 when unknown.
    """

    name: str
    agent_tgid: int = 0
    agent_netns: int = 0


class FactSource(Protocol):
    """Where facts come from. No method raises or waits: what cannot be known is empty or None."""

    def host(self) -> HostFacts:
        """Return what is known of this machine."""

    def process(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return what is known of a process that was called *comm* when the kernel saw it."""

    def container(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        """Return the container of a cgroup, None when it is not one of a container."""

    def addresses(self, tgid: int) -> tuple[bytes, ...]:
        """Return the packed addresses of the network namespace of a process; empty when it cannot be asked."""


class FactLog:
    """A source that remembers what another one answered, so that it can be written beside a recording.

    A process's first answer stands; a container is asked for again until it is known.
    """

    def __init__(self, source: FactSource) -> None:
        self._source = source
        self._processes: dict[tuple[int, bytes], ProcessFacts] = {}
        self._containers: dict[tuple[int, int], ContainerFacts | None] = {}
        self._addresses: dict[int, tuple[bytes, ...]] = {}

    def host(self) -> HostFacts:
        """Return what the source says."""
        return self._source.host()

    def process(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return the first answer to this question."""
        found = self._processes.get((tgid, comm))
        if found is None:
            found = self._source.process(tgid, comm)
            if len(self._processes) < MAX_LOGGED:
                self._processes[tgid, comm] = found
        return found

    def container(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        """Return the first answer to this question that names one."""
        key = (cgroup_id, tgid)
        found = self._containers.get(key)
        if found is None:
            found = self._source.container(cgroup_id, tgid)
            if len(self._containers) < MAX_LOGGED:
                self._containers[key] = found
        return found

    def addresses(self, tgid: int) -> tuple[bytes, ...]:
        """Return the first answer to this question that is one."""
        found = self._addresses.get(tgid, ())
        if not found:
            found = self._source.addresses(tgid)
            if found and len(self._addresses) < MAX_LOGGED:
                self._addresses[tgid] = found
        return found

    def as_json(self) -> dict[str, Any]:
        """Return everything that was answered as plain values; :class:`RecordedFacts` reads them."""
        return {
            "host": asdict(self.host()),
            "processes": [[tgid, comm.hex(), asdict(facts)] for (tgid, comm), facts in self._processes.items()],
            "containers": [[*key, facts and asdict(facts)] for key, facts in self._containers.items()],
            "addresses": [[tgid, [one.hex() for one in found]] for tgid, found in self._addresses.items()],
        }


class RecordedFacts:
    """The facts of a recording. What it does not hold is answered as for a process that is gone."""

    def __init__(self, written: dict[str, Any]) -> None:
        """Read what :meth:`FactLog.as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        self._host = HostFacts(**written["host"])
        self._processes = {
            (int(tgid), bytes.fromhex(comm)): ProcessFacts(**facts) for tgid, comm, facts in written["processes"]
        }
        self._containers = {
            (int(cgroup_id), int(tgid)): ContainerFacts(**facts) if facts else None
            for cgroup_id, tgid, facts in written["containers"]
        }
        self._addresses = {
            int(tgid): tuple(bytes.fromhex(one) for one in found) for tgid, found in written.get("addresses", [])
        }

    def host(self) -> HostFacts:
        """Return the machine of the recording."""
        return self._host

    def process(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return what was known of the process, else its comm."""
        return self._processes.get((tgid, comm)) or ProcessFacts(printable(comm))

    def container(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        """Return what was known of the cgroup."""
        return self._containers.get((cgroup_id, tgid))

    def addresses(self, tgid: int) -> tuple[bytes, ...]:
        """Return what was known of the process's network namespace."""
        return self._addresses.get(tgid, ())


def printable(name: bytes) -> str:
    """Decode a name that a process chose for itself: UTF-8, everything that cannot be shown becomes a question mark."""
    text = name.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
