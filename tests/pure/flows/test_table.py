"""The flow table: connections opened, failed, closed, their traffic as differences, and how many are open."""

from __future__ import annotations

import errno

import pytest

from otel_ebpf.flows.bounds import Bounds
from otel_ebpf.flows.sinks import FlowDelta
from otel_ebpf.flows.table import FlowTable
from otel_ebpf.kernel import layout
from otel_ebpf.records import FlowRecord
from tests.pure.listening import Heard, listen
from tests.pure.turn_builder import C, Conversation, edge, ring_record

ENDED, OLDER, FAILED, CONNECTING = C["FLOW_ENDED"], C["FLOW_OLDER"], C["FLOW_FAILED"], C["FLOW_CONNECTING"]
CLIENT, SERVER = edge(C["ROLE_CLIENT"]), edge(C["ROLE_SERVER"])


def row(flow_id: int = 1, *, flags: int = 0, key: bytes = CLIENT, error: int = 0, **totals: int) -> bytes:
    """One flow record; a client's, established at 1000, unless said otherwise."""
    values = {
        "opened_ns": 900, "established_ns": 1000, "handshake_ns": 100, "accepted_ns": 0, "closed_ns": 0,
        "bytes_sent": 0, "bytes_received": 0, "packets_sent": 0, "packets_received": 0, "reads": 0, "writes": 0,
        "srtt_us": 0,
    } | {name: value for name, value in totals.items() if name != "fast"}  # fmt: skip
    retransmits = (totals.get("fast", 0), 0, 0, 0, 0, 0)
    return layout.FLOW.pack(
        C["RECORD_FLOW"], flags, flow_id, key, 80, 40000, 1, 1, error, 0, *values.values(), *retransmits, 0
    )


def table(bounds: Bounds | None = None) -> tuple[FlowTable, Heard]:
    """A table, and where it tells."""
    heard = Heard()
    return FlowTable(heard, heard, bounds or Bounds()), heard


def test_life_of_a_connection() -> None:
    """Opened once, traffic as differences, closed with the time since it was established."""
    flows, heard = table()
    flows.take_rows(row(bytes_sent=10, packets_sent=1, writes=1, srtt_us=70))
    flows.take_rows(row(bytes_sent=10, packets_sent=1, writes=1, srtt_us=70))
    assert flows.active() == {CLIENT: 1}
    flags = ENDED | C["FLOW_RESET_RECEIVED"]
    flows.take(FlowRecord.unpack(row(flags=flags, bytes_sent=25, packets_sent=3, writes=2, fast=1, closed_ns=6000)))
    assert heard.events == [
        ("opened", 1),
        ("traffic", 1, FlowDelta(10, 0, 1, 0, 0, 1, (0,) * 6, reset_sent=False, reset_received=False, srtt_us=70)),
        (
            "traffic",
            1,
            FlowDelta(15, 0, 2, 0, 0, 1, (1, 0, 0, 0, 0, 0), reset_sent=False, reset_received=True, srtt_us=0),
        ),
        ("closed", 1, 5000),
    ]
    assert flows.active() == {}
    assert len(flows) == 0


def test_rows_older_than_the_end_are_not_another_connection() -> None:
    """A row read before the record of the end was taken does not open the connection again."""
    flows, heard = table()
    flows.take(FlowRecord.unpack(row(flags=ENDED, closed_ns=2000)))
    flows.take_rows(row(bytes_sent=5))
    flows.take_rows(row(bytes_sent=5))
    assert [event[0] for event in heard.events] == ["opened", "closed"]


def test_short_connection_is_told_from_its_last_record() -> None:
    """A connection that no look ever saw is opened, told and closed at once."""
    flows, heard = table()
    flows.take(FlowRecord.unpack(row(flags=ENDED, closed_ns=1500, bytes_received=7, packets_received=1, reads=1)))
    assert [event[0] for event in heard.events] == ["opened", "traffic", "closed"]
    assert flows.active() == {}


def test_connection_older_than_the_agent() -> None:
    """A connection that was open before counts as opened, and lasts since it was first seen."""
    flows, heard = table()
    flows.take_rows(row(flags=OLDER, established_ns=0))
    flows.take(FlowRecord.unpack(row(flags=OLDER | ENDED, established_ns=0, closed_ns=1900)))
    assert heard.events == [("opened", 1), ("closed", 1, 1000)]


def test_server_is_opened_when_it_is_accepted() -> None:
    """The opening of a server's connection waits for accept, whose wait belongs to it, or for the end."""
    flows, heard = table()
    flows.take_rows(row(key=SERVER))
    assert heard.events == []
    flows.take_rows(row(key=SERVER, accepted_ns=1400))
    assert heard.events == [("opened", 1)]
    flows.take(FlowRecord.unpack(row(2, key=SERVER, flags=ENDED, closed_ns=3000)))
    assert heard.events[1:] == [("opened", 2), ("closed", 2, 2000)]


@pytest.mark.parametrize(
    ("error", "flags", "expected"),
    [
        (errno.ECONNREFUSED, 0, "refused"),
        (errno.ECONNRESET, 0, "reset"),
        (errno.ETIMEDOUT, 0, "timed_out"),
        (errno.EHOSTUNREACH, 0, "host_unreachable"),
        (errno.ENETUNREACH, 0, "network_unreachable"),
        (errno.EACCES, 0, "_OTHER"),
        (0, 0, "_OTHER"),
        (0, C["FLOW_TIMED_OUT"], "timed_out"),
        (0, C["FLOW_RESET_RECEIVED"], "reset"),
    ],
)
def test_failure(error: int, flags: int, expected: str) -> None:
    """A connection that was never established fails once, with its reason, and is never open."""
    flows, heard = table()
    flows.take_rows(row(flags=CONNECTING, established_ns=0))
    failed = row(flags=CONNECTING | FAILED | flags, established_ns=0, error=error, closed_ns=1100)
    flows.take_rows(failed)
    flows.take_rows(failed)
    flows.take(
        FlowRecord.unpack(row(flags=CONNECTING | FAILED | ENDED | flags, established_ns=0, error=error, closed_ns=1100))
    )
    assert heard.events == [("failed", 1, expected)]
    assert flows.active() == {}


def test_closed_socket_that_a_process_keeps() -> None:
    """A connection is over when TCP closed it, however long the process keeps the socket."""
    flows, heard = table()
    for _ in range(5):
        flows.take_rows(row(closed_ns=2000))
    flows.take(FlowRecord.unpack(row(flags=ENDED, closed_ns=2000)))
    assert heard.events == [("opened", 1), ("closed", 1, 1000)]


def test_edge_that_becomes_known() -> None:
    """The open connection counts under its edge as it is known now."""
    flows, _ = table()
    unknown = edge(C["ROLE_UNKNOWN"])
    flows.take_rows(row(flags=OLDER, key=unknown))
    flows.take_rows(row(flags=OLDER))
    assert flows.active() == {CLIENT: 1}


def test_lost_end() -> None:
    """A connection that two looks do not show any more is gone, and counted as such."""
    flows, heard = table()
    flows.take_rows(row())
    flows.take_rows(b"")
    assert flows.active() == {CLIENT: 1}
    flows.take_rows(b"")
    assert flows.active() == {}
    assert heard.rows["flow", "dropped", "end_lost"] == 1


def test_full_table() -> None:
    """Beyond its bound the table does not grow; such connections are told at their end only."""
    flows, heard = table(Bounds(max_flows=2))
    flows.take_rows(b"".join(row(i) for i in range(1, 5)))
    assert len(flows) == 2
    assert heard.rows["flow", "dropped", "table_full"] == 2
    flows.take(FlowRecord.unpack(row(4, flags=ENDED, closed_ns=2000, bytes_sent=9)))
    assert [event[0] for event in heard.events if event[1] == 4] == ["opened", "traffic", "closed"]


def test_records_of_the_ring() -> None:
    """The intake hands ends to the table, and closes what was under way on the connection."""
    intake, heard = listen()
    intake.take(Conversation().request(b"GET / HTTP/1.1\r\n\r\n").request(b"GET /2 HTTP/1.1\r\n\r\n").sent(), 0)
    intake.take(ring_record(row(flags=ENDED | C["FLOW_RESET_SENT"], closed_ns=2000)), 0)
    assert [(e.target, e.error_type) for e in heard.exchanges] == [(b"/", "reset")]
    assert ("closed", 1, 1000) in heard.events
    assert (intake.flows, intake.turns, intake.pending) == (1, 1, 0)
