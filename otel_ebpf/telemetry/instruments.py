"""THE instrument table: every metric the agent can send, its kind, unit, attributes and bounds.

In: nothing. Out: the rows that aggregation, encoding, ``docs/metrics.md`` and the tests derive from.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_ebpf.telemetry import names as n


class Kind(enum.Enum):
    """What an instrument is; the values are what the documentation calls it."""

    COUNTER = "counter"
    UPDOWNCOUNTER = "updowncounter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One metric. Compared by identity: an instrument is a key of the aggregates.

    Attributes:
        name: As backends see it.
        kind: What it is.
        unit: UCUM.
        description: One sentence.
        attributes: Keys it may carry, without those of the other end (``PEER``).
        bounds: Upper bounds of the histogram's buckets in native integers (ns or bytes), each bound inside its bucket.
        scale: Native integers per unit: 10**9 where times are kept in ns and told in seconds.
        peer: Whether it carries the attributes of the other end.
        observed: Whether it is read once per collection rather than counted up: asynchronous, as OpenTelemetry says.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()
    scale: int = 1
    peer: bool = True
    observed: bool = False


NS_PER_S: Final = 10**9

HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2, 2.5, 5, 7.5, 10)
"""The HTTP conventions' advice, and 2 s: Apdex with its usual threshold of 0.5 s needs 0.5 and 2."""

HTTP_BOUNDS: Final = tuple(round(bound * NS_PER_S) for bound in HTTP_SECONDS)

KERNEL_BOUNDS: Final = tuple(1_000 << power for power in range(25))
"""1 µs … 16.8 s by powers of two, so that log2 counts made in the kernel map exactly."""

SIZE_BOUNDS: Final = (0, *(4**power for power in range(3, 14)))
"""Bytes: none at all, then 64 B … 64 MiB by powers of four: wide enough for downloads, twelve numbers per series."""

PEER: Final = (
    n.SERVICE_PEER_NAME,
    n.SERVICE_PEER_NAMESPACE,
    n.PEER_TYPE,
    n.SERVER_ADDRESS,
    n.SERVER_PORT,
    n.NETWORK_TRANSPORT,
    n.NETWORK_TYPE,
)

_HTTP: Final = (
    n.HTTP_REQUEST_METHOD,
    n.HTTP_RESPONSE_STATUS_CODE,
    n.ERROR_TYPE,
    n.NETWORK_PROTOCOL_VERSION,
    n.URL_SCHEME,
    n.TLS_ESTABLISHED,
)
_HTTP_SERVER: Final = (*_HTTP, n.HTTP_ROUTE)
_HTTP_CLIENT: Final = (*_HTTP, n.URL_TEMPLATE)
_HTTP_BOTH: Final = (*_HTTP, n.HTTP_ROUTE, n.URL_TEMPLATE, n.ROLE)
_NETWORK: Final = (n.NETWORK_IO_DIRECTION, n.ROLE, n.NETWORK_PROTOCOL_NAME)


def _duration(
    name: str, description: str, attributes: tuple[str, ...], bounds: tuple[int, ...], *, peer: bool = True
) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, "s", description, attributes, bounds, NS_PER_S, peer)


def _size(name: str, description: str, attributes: tuple[str, ...]) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, "By", description, attributes, SIZE_BOUNDS)


def _counter(name: str, unit: str, description: str, attributes: tuple[str, ...]) -> Instrument:
    return Instrument(name, Kind.COUNTER, unit, description, attributes)


def _own(kind: Kind, name: str, unit: str, description: str, *attributes: str, scale: int = 1) -> Instrument:
    """Declare an instrument of the agent about itself."""
    return Instrument(name, kind, unit, description, attributes, (), scale, peer=False, observed=True)


SERVER_DURATION: Final = _duration(
    "http.server.request.duration",
    "Duration of HTTP server requests: first byte of the request to last byte of the response.",
    _HTTP_SERVER,
    HTTP_BOUNDS,
)
CLIENT_DURATION: Final = _duration(
    "http.client.request.duration",
    "Duration of HTTP client requests: first byte of the request to last byte of the response.",
    _HTTP_CLIENT,
    HTTP_BOUNDS,
)
SERVER_REQUEST_BODY: Final = _size("http.server.request.body.size", "Size of HTTP server request bodies.", _HTTP_SERVER)
SERVER_RESPONSE_BODY: Final = _size(
    "http.server.response.body.size", "Size of HTTP server response bodies.", _HTTP_SERVER
)
CLIENT_REQUEST_BODY: Final = _size("http.client.request.body.size", "Size of HTTP client request bodies.", _HTTP_CLIENT)
CLIENT_RESPONSE_BODY: Final = _size(
    "http.client.response.body.size", "Size of HTTP client response bodies.", _HTTP_CLIENT
)
REQUEST_HEADER: Final = _size(
    "ebpf.http.request.header.size", "Size of the request line and header section.", _HTTP_BOTH
)
RESPONSE_HEADER: Final = _size(
    "ebpf.http.response.header.size", "Size of the status line and header section.", _HTTP_BOTH
)
TIME_TO_FIRST_BYTE: Final = _duration(
    "ebpf.http.time_to_first_byte", "First byte of the request to first byte of the response.", _HTTP_BOTH, HTTP_BOUNDS
)

CONNECTIONS: Final = _counter(
    "ebpf.tcp.connections",
    "{connection}",
    "TCP connections established, or with error.type failed, since the agent watches.",
    (n.ROLE, n.ERROR_TYPE),
)
CONNECTIONS_ACTIVE: Final = Instrument(
    "ebpf.tcp.connections.active",
    Kind.UPDOWNCOUNTER,
    "{connection}",
    "TCP connections that are open, those older than the agent included.",
    (n.ROLE,),
)
HANDSHAKE_DURATION: Final = _duration(
    "ebpf.tcp.handshake.duration",
    "TCP handshake: SYN sent (client) or seen (server) to established.",
    (n.ROLE,),
    KERNEL_BOUNDS,
)
ACCEPT_WAIT: Final = _duration(
    "ebpf.tcp.accept.wait", "Wait in the accept queue: established to accept().", (), KERNEL_BOUNDS
)
CONNECTION_DURATION: Final = _duration(
    "ebpf.tcp.connection.duration", "Life of a TCP connection, when it has ended.", (n.ROLE,), KERNEL_BOUNDS
)
RTT: Final = _duration("ebpf.tcp.rtt", "Smoothed round-trip time, sampled while the flow lives.", (), KERNEL_BOUNDS)
RETRANSMITS: Final = _counter(
    "ebpf.tcp.retransmits", "{packet}", "Segments sent again, by the reason.", (n.RETRANSMIT_TYPE,)
)
RESETS: Final = _counter("ebpf.tcp.resets", "{reset}", "TCP resets, sent or received.", (n.NETWORK_IO_DIRECTION,))
NETWORK_IO: Final = _counter("ebpf.network.io", "By", "Payload over TCP, each byte once.", _NETWORK)
NETWORK_PACKETS: Final = _counter(
    "ebpf.network.packets", "{packet}", "TCP segments on the wire; GSO counted as its segments.", _NETWORK
)
SOCKET_CALLS: Final = _counter(
    "ebpf.socket.calls",
    "{call}",
    "Socket calls: connect, accept, close, read, write.",
    (n.SOCKET_OPERATION, n.ERROR_TYPE),
)

RECORDS: Final = _own(
    Kind.COUNTER,
    "otel_ebpf.records",
    "{record}",
    "The ledger: per stage, seen = passed + aggregated + exported + sampled_out + dropped.",
    n.STAGE,
    n.OUTCOME,
    n.REASON,
)
PROBES: Final = _own(
    Kind.GAUGE,
    "otel_ebpf.probes",
    "{probe}",
    "1 for each hook, with what became of it.",
    n.HOOK,
    n.KIND,
    n.STATE,
    n.REASON,
)
FLOWS: Final = _own(Kind.UPDOWNCOUNTER, "otel_ebpf.flows", "{flow}", "Flows that user space keeps.")
MAP_ENTRIES: Final = _own(Kind.UPDOWNCOUNTER, "otel_ebpf.map.entries", "{entry}", "Entries of a kernel map.", n.MAP)
MAP_CAPACITY: Final = _own(
    Kind.UPDOWNCOUNTER, "otel_ebpf.map.capacity", "{entry}", "Most entries of a kernel map.", n.MAP
)
PROGRAM_TIME: Final = _own(
    Kind.COUNTER, "otel_ebpf.program.run.time", "s", "Time in a BPF program.", n.PROGRAM, scale=NS_PER_S
)
PROGRAM_RUNS: Final = _own(Kind.COUNTER, "otel_ebpf.program.runs", "{run}", "Runs of a BPF program.", n.PROGRAM)
LOOP_DURATION: Final = _duration(
    "otel_ebpf.loop.duration", "One turn of the agent's loop, waiting left out.", (), KERNEL_BOUNDS, peer=False
)
PROFILE: Final = _own(Kind.GAUGE, "otel_ebpf.profile", "1", "1 for the profile in force.", n.PROFILE)
SERIES: Final = _own(Kind.UPDOWNCOUNTER, "otel_ebpf.metric.series", "{series}", "Metric series kept.")
SERIES_FORGOTTEN: Final = _own(
    Kind.COUNTER, "otel_ebpf.metric.series.forgotten", "{series}", "Metric series forgotten because they were idle."
)
SERIES_REFUSED: Final = _own(
    Kind.COUNTER,
    "otel_ebpf.metric.series.refused",
    "{series}",
    "Attribute sets that met the cardinality limit and went to the overflow series.",
)
EXPORTS: Final = _own(
    Kind.COUNTER, "otel_ebpf.exports", "{export}", "Export requests, by signal and result.", n.SIGNAL, n.OUTCOME
)
CPU_TIME: Final = _own(Kind.COUNTER, "process.cpu.time", "s", "CPU time of the agent.", n.CPU_MODE, scale=NS_PER_S)
MEMORY_USAGE: Final = _own(Kind.UPDOWNCOUNTER, "process.memory.usage", "By", "Resident memory of the agent.")

TABLE: Final = (
    SERVER_DURATION,
    CLIENT_DURATION,
    SERVER_REQUEST_BODY,
    SERVER_RESPONSE_BODY,
    CLIENT_REQUEST_BODY,
    CLIENT_RESPONSE_BODY,
    REQUEST_HEADER,
    RESPONSE_HEADER,
    TIME_TO_FIRST_BYTE,
    CONNECTIONS,
    CONNECTIONS_ACTIVE,
    HANDSHAKE_DURATION,
    ACCEPT_WAIT,
    CONNECTION_DURATION,
    RTT,
    RETRANSMITS,
    RESETS,
    NETWORK_IO,
    NETWORK_PACKETS,
    SOCKET_CALLS,
    RECORDS,
    PROBES,
    FLOWS,
    MAP_ENTRIES,
    MAP_CAPACITY,
    PROGRAM_TIME,
    PROGRAM_RUNS,
    LOOP_DURATION,
    PROFILE,
    SERIES,
    SERIES_FORGOTTEN,
    SERIES_REFUSED,
    EXPORTS,
    CPU_TIME,
    MEMORY_USAGE,
)


def markdown() -> str:
    """Return ``docs/metrics.md``."""
    return "".join(
        (
            "# Metrics\n\n<!-- Generated from otel_ebpf/telemetry/instruments.py: `make docs`. -->\n\n",
            "Every workload is its own Resource; the agent's own metrics carry the agent's. Durations are seconds.\n\n",
            "## Workloads\n\n",
            "Each carries, where known, the attributes of the other end: ",
            ", ".join(f"`{key}`" for key in PEER),
            ".\n\n",
            *_rows(row for row in TABLE if row.peer),
            "\n## The agent about itself\n\n",
            *_rows(row for row in TABLE if not row.peer),
            "\n## Bounds\n\n",
            *(f"- {title}: {_bounds(bounds, scale)}\n" for title, bounds, scale in _BOUNDS),
        )
    )


_BOUNDS: Final = (
    ("HTTP durations (s)", HTTP_BOUNDS, NS_PER_S),
    ("Kernel durations (s), powers of two of 1 µs", KERNEL_BOUNDS, NS_PER_S),
    ("Sizes (By), powers of four", SIZE_BOUNDS, 1),
)


def _rows(rows: Iterable[Instrument]) -> Iterable[str]:
    yield "| name | kind | unit | what | attributes |\n|---|---|---|---|---|\n"
    for row in rows:
        keys = ", ".join(f"`{key}`" for key in row.attributes) or "-"
        yield f"| `{row.name}` | {row.kind.value} | `{row.unit}` | {row.description} | {keys} |\n"


def _bounds(bounds: tuple[int, ...], scale: int) -> str:
    return ", ".join(f"{bound / scale:.9g}" for bound in bounds)
