"""Makes the recordings of this folder from real traffic: ``python -m tests.data.make``, as root.

In: a known workload between two namespaces, and servers and clients with all their habits on loopback. Out:
``known.rec`` and ``habits.rec``. What else went on in the machine meanwhile is taken out, so that a recording speaks of
the traffic alone.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_ebpf.kernel import layout
from otel_ebpf.recording import Recording, RecordingWriter, read
from otel_ebpf.records import Batch, EdgeKey, FlowRecord, Listener
from tests.support.agent import running_agent
from tests.support.habits import play, start
from tests.support.network import veth_pair
from tests.support.servers import nginx
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent
REQUESTS: Final = 400
HOST_NAME: Final = "node-1"
_LOOPBACK: Final = ("7f000001", "00000000000000000000000000000001")
_RING_ALIGN: Final = 8
_FLAGS: Final = [name for name, _ in layout.TURN_RECORD.fields].index("flags")


@dataclass(slots=True)
class Filter:
    """Keeps the connections that are wanted."""

    wanted: Callable[[EdgeKey], bool]
    processes: set[int] = field(default_factory=set)
    _flows: dict[int, bool] = field(default_factory=dict)
    _removed: Counter[int] = field(default_factory=Counter)

    def batch(self, batch: Batch) -> Batch:
        """The batch without the rest; the kernel's counters as if it had not been."""
        ring = b"".join(self._kept(batch.ring))
        flows = None if batch.flows is None else b"".join(self._kept_rows(batch.flows))
        counters = batch.counters and tuple(n - self._removed[index] for index, n in enumerate(batch.counters))
        return Batch(batch.time_ns, ring, flows, counters)

    def learn(self, ring: bytes) -> None:
        """Note whose flows these are: a segment, which comes before its turn, does not say it."""
        for at, _ in layout.records_in(ring):
            if _kind(ring, at) != layout.constants()["RECORD_SEGMENT"]:
                self._wanted(ring, at)

    def _kept(self, ring: bytes) -> Iterator[bytes]:
        for at, length in layout.records_in(ring):
            if self._wanted(ring, at):
                end = at + (length + _RING_ALIGN - 1 & -_RING_ALIGN)
                yield ring[at - layout.RING_HEADER_BYTES : end]
            else:
                self._removed[_counter_of(ring, at)] += 1

    def _kept_rows(self, rows: bytes) -> Iterator[bytes]:
        for at in range(0, len(rows), layout.FLOW.size):
            if self._ours(FlowRecord.unpack(rows, at).edge):
                yield rows[at : at + layout.FLOW.size]

    def _wanted(self, ring: bytes, at: int) -> bool:
        constants = layout.constants()
        kind = _kind(ring, at)
        if kind == constants["RECORD_SEGMENT"]:
            return self._flows.get(layout.SEGMENT.unpack_from(ring, at)[2], False)
        fields = (layout.TURN if kind == constants["RECORD_TURN"] else layout.FLOW).unpack_from(ring, at)
        self._flows[fields[2]] = self._ours(fields[3])
        return self._flows[fields[2]]

    def _ours(self, edge: bytes) -> bool:
        key = EdgeKey.unpack(edge)
        if self.wanted(key):
            self.processes.add(key.tgid)
        return self.wanted(key)


def _kind(ring: bytes, at: int) -> int:
    return int.from_bytes(ring[at : at + 4], "little")


def _counter_of(ring: bytes, at: int) -> int:
    constants = layout.constants()
    kind = _kind(ring, at)
    if kind == constants["RECORD_SEGMENT"]:
        return constants["COUNT_SEGMENTS"]
    if kind == constants["RECORD_FLOW"]:
        return constants["COUNT_FLOWS"]
    flags = layout.TURN.unpack_from(ring, at)[_FLAGS]
    return constants["COUNT_SNAPSHOTS" if flags & constants["TURN_SNAPSHOT"] else "COUNT_TURNS"]


def _rewritten(source: Path, target: Path, wanted: Callable[[EdgeKey], bool]) -> None:
    """Copy a recording without what is not wanted, and without the name and the addresses of this machine."""
    recording, batches = read(source)
    keep = Filter(wanted)
    for batch in batches:
        keep.learn(batch.ring)
    kept = [keep.batch(batch) for batch in batches]
    listeners = b"".join(
        recording.listeners[at : at + layout.LISTENER.size]
        for at in range(0, len(recording.listeners), layout.LISTENER.size)
        if Listener.unpack(recording.listeners, at).tgid in keep.processes
    )
    with target.open("wb") as file:
        writer = RecordingWriter(file, replace(recording, listeners=listeners))
        for batch in kept:
            writer.batch(batch)
        writer.facts(_facts(recording, keep.processes))


def _facts(recording: Recording, processes: set[int]) -> dict[str, Any]:
    facts = recording.facts
    return {
        "host": facts["host"] | {"name": HOST_NAME},
        "processes": [row for row in facts["processes"] if row[0] in processes],
        "containers": [row for row in facts["containers"] if row[1] in processes],
        "addresses": [[tgid, list(_LOOPBACK)] for tgid, _ in facts["addresses"] if tgid in processes],
    }


def known(target: Path) -> None:
    """Record the known workload of :data:`REQUESTS` requests between two namespaces."""
    with tempfile.TemporaryDirectory() as name, veth_pair() as (servers, clients):
        folder, raw = Path(name), Path(name) / "raw.rec"
        inodes = frozenset(Path("/run/netns", one.name).stat().st_ino for one in (servers, clients))
        with (
            nginx(folder / "nginx", namespace=servers) as server,
            running_agent(folder / "agent", command=("record", str(raw))) as agent,
        ):
            KnownWorkload(REQUESTS).run_apart(server.host, server.port, clients)
            agent.finished()
        _rewritten(raw, target, lambda key: key.netns in inodes)


def habits(target: Path) -> None:
    """Record all habits."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, raw = Path(name), Path(name) / "raw.rec"
        running = start(stack, folder)
        with running_agent(folder / "agent", command=("record", str(raw))) as agent:
            play(running)
            agent.finished()
        ports = {server.port for server in running.values()}
        _rewritten(raw, target, lambda key: key.server_port in ports)


def main() -> None:
    """Make them all."""
    known(HERE / "known.rec")
    habits(HERE / "habits.rec")


if __name__ == "__main__":
    main()
