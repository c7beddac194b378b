"""Log records and spans: every field, read back by the official library."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.exchange import Exchange, TraceContext
from otel_ebpf.telemetry import http
from tests.pure.telemetry.making import (
    CLIENT,
    MS,
    OFFSET_NS,
    START_NS,
    Bench,
    S,
    SomeEnricher,
    SomePeer,
    attributes,
    bench,
    exchange,
    raw_edge,
)

PARENT = TraceContext(bytes(range(16)), b"parentid", True, b"vendor=1,b=2")  # noqa: FBT003 - a field


def tell(made: Exchange, enricher: SomeEnricher | None = None, **settings: Any) -> tuple[Any, Any, Bench]:
    """Tell one exchange; return its log record, its span and the bench."""
    b = bench(enricher, **({"exchange_logs": "all", "exchange_spans": "all"} | settings))
    b.telemetry.tick(START_NS + S)
    b.telemetry.exchange(made)
    b.telemetry.shutdown()
    return next(iter(b.kept.logs()), None), next(iter(b.kept.spans()), None), b


def test_log_record_of_a_server_exchange() -> None:
    """A log record has time, severity, event name, body and every attribute of the contract."""
    log, span, _ = tell(exchange(trace=PARENT))
    assert log.time_unix_nano == START_NS + OFFSET_NS
    assert log.observed_time_unix_nano == START_NS + S + OFFSET_NS
    assert (log.severity_number, log.severity_text) == (9, "INFO")
    assert log.event_name == "ebpf.http.exchange"
    assert log.body.string_value == '10.0.0.7 "GET /users/7?x=1 HTTP/1.1" 200 612 12.000ms'
    assert (log.trace_id, log.span_id, log.flags) == (span.trace_id, span.span_id, 1)
    assert attributes(log.attributes) == {
        "ebpf.peer.type": "external",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 40123,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "ebpf.role": "server",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/users",
        "url.scheme": "http",
        "url.path": "/users/7",
        "url.query": "x=1",
        "user_agent.original": "curl/8.0",
        "server.address": "example.com",
        "server.port": 80,
        "ebpf.http.request.header.size": 78,
        "http.request.body.size": 0,
        "ebpf.http.response.header.size": 230,
        "http.response.body.size": 612,
        "ebpf.phase.request.duration": 0.001,
        "ebpf.phase.wait.duration": 0.008,
        "ebpf.phase.response.duration": 0.003,
        "ebpf.tcp.rtt": 0.00015,
        "ebpf.tcp.retransmits": 0,
        "ebpf.exchange.complete": True,
    }


def test_span_of_a_client_exchange() -> None:
    """A span has kind, name, parent, state, times, attributes, events and flags by the conventions."""
    made = exchange(edge=CLIENT, trace=PARENT, handshake_ns=2 * MS, remote_port=8080)
    _, span, _ = tell(made, SomeEnricher(SomePeer("service", "shop", "prod")))
    assert (span.kind, span.name) == (3, "GET /users")
    assert (span.trace_id, span.parent_span_id, span.trace_state) == (PARENT.trace_id, b"parentid", "vendor=1,b=2")
    assert len(span.span_id) == 8
    assert span.span_id not in {b"parentid", bytes(8)}
    assert span.start_time_unix_nano == START_NS + OFFSET_NS
    assert span.end_time_unix_nano == START_NS + OFFSET_NS + 12 * MS
    assert span.flags == 0x301
    assert span.status.code == 0
    assert [(event.name, event.time_unix_nano - START_NS - OFFSET_NS) for event in span.events] == [
        ("ebpf.phase.connect", -2 * MS),
        ("ebpf.phase.request", 0),
        ("ebpf.phase.wait", 1 * MS),
        ("ebpf.phase.response", 9 * MS),
    ]
    found = attributes(span.attributes)
    assert found["url.template"] == "/users"
    assert "http.route" not in found
    assert found["service.peer.name"] == "shop"
    assert found["network.peer.port"] == 8080
    assert (found["http.request.body.size"], found["http.response.body.size"]) == (0, 612)


def test_a_root_span() -> None:
    """Without a caller's context a span starts a trace of its own."""
    log, span, _ = tell(exchange())
    assert len(span.trace_id) == 16
    assert span.trace_id != bytes(16)
    assert (span.parent_span_id, span.trace_state, span.flags) == (b"", "", 0x101)
    assert log.trace_id == span.trace_id


def test_ids_are_those_of_the_flow_and_sequence() -> None:
    """The same exchange always gets the same ids, another one others."""
    ids = [tell(exchange(flow_id=flow, sequence=n))[1] for flow, n in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert (ids[0].trace_id, ids[0].span_id) == (ids[1].trace_id, ids[1].span_id)
    assert len({span.span_id for span in ids}) == len({span.trace_id for span in ids}) == 3


@pytest.mark.parametrize(
    ("changes", "severity", "status"),
    [
        ({"status": 404}, "INFO", 0),
        ({"status": 404, "edge": CLIENT}, "WARN", 2),
        ({"status": 500}, "ERROR", 2),
        ({"status": 503, "edge": CLIENT}, "ERROR", 2),
        ({"status": 200, "error_type": "reset"}, "ERROR", 2),
        ({"status": None, "error_type": "timed_out"}, "ERROR", 2),
        ({"response_last_ns": START_NS + 2 * S}, "WARN", 0),
        ({"response_last_ns": START_NS + 2 * S, "status": 500}, "ERROR", 2),
    ],
)
def test_severity_and_status(changes: dict[str, Any], severity: str, status: int) -> None:
    """Errors are ERROR, a client's 4xx and slow exchanges WARN; a span's status is an error where error.type is set."""
    log, span, _ = tell(exchange(**changes))
    assert (log.severity_text, span.status.code) == (severity, status)
    assert {9: "INFO", 13: "WARN", 17: "ERROR"}[log.severity_number] == severity
    assert ("error.type" in attributes(log.attributes)) == (status == 2)


def test_secrets_are_redacted_everywhere() -> None:
    """A secret of the query is in no attribute, no body and no name."""
    _, _, b = tell(exchange(target=b"/a?token=hunter2&x=1", edge=CLIENT))
    assert all(b"hunter2" not in request.payload() for request in b.kept.requests)
    assert attributes(b.kept.logs()[0].attributes)["url.query"] == "token=REDACTED&x=1"
    assert '"GET /a?token=REDACTED&x=1 HTTP/1.1"' in b.kept.logs()[0].body.string_value


def test_unknown_methods_keep_their_original() -> None:
    """An extension method is _OTHER with the original beside it, and the span is named HTTP."""
    log, span, _ = tell(exchange(method=b"BREW"))
    found = attributes(log.attributes)
    assert (found["http.request.method"], found["http.request.method_original"]) == ("_OTHER", "BREW")
    assert span.name == "HTTP /users"


def test_what_is_unknown_is_absent() -> None:
    """A response whose request was never seen has no method, path, sizes or phases that were not seen."""
    made = exchange(
        method=b"", target=b"", version="", host=None, user_agent=None, request_first_ns=0, request_last_ns=0,
        request_header_bytes=None, request_body_bytes=None, srtt_us=0, missing=("request_head", "request_start"),
    )  # fmt: skip
    log, span, _ = tell(made)
    found = attributes(log.attributes)
    assert found["ebpf.exchange.complete"] is False
    assert found["ebpf.exchange.missing"] == ["request_head", "request_start"]
    assert log.time_unix_nano == START_NS + 9 * MS + OFFSET_NS
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        START_NS + 9 * MS + OFFSET_NS,
        START_NS + 12 * MS + OFFSET_NS,
    )
    assert [event.name for event in span.events] == ["ebpf.phase.response"]
    assert span.name == "HTTP"
    assert found["server.address"] == "10.0.0.1"
    absent = {
        "http.request.method", "url.path", "url.query", "http.route", "network.protocol.version", "ebpf.tcp.rtt",
        "user_agent.original", "http.request.body.size", "ebpf.phase.request.duration", "ebpf.phase.wait.duration",
    }  # fmt: skip
    assert not absent & set(found)


def test_early_answer_leaves_no_negative_wait() -> None:
    """An answer that began before the request had ended waited 0 s, and the span does not end before it begins."""
    log, span, _ = tell(exchange(response_first_ns=START_NS + MS // 2, response_last_ns=START_NS + MS))
    assert attributes(log.attributes)["ebpf.phase.wait.duration"] == 0
    assert span.end_time_unix_nano >= span.start_time_unix_nano


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"shop.example:8443", "shop.example", 8443),
        (b"shop.example", "shop.example", 80),
        (b"[fd00::1]:81", "fd00::1", 81),
        (b"[fd00::1]", "fd00::1", 80),
        (b"fd00::1", "fd00::1", 80),
        (b"a:b", "a:b", 80),
        (None, "10.0.0.7", 80),
    ],
)
def test_server_is_what_the_client_asked_for(host: bytes | None, address: str, port: int) -> None:
    """server.address and server.port come from Host, else from the serving end of the connection."""
    log, _, _ = tell(exchange(host=host, edge=CLIENT))
    found = attributes(log.attributes)
    assert (found["server.address"], found["server.port"]) == (address, port)


def test_long_texts_are_cut_and_said_so() -> None:
    """A path longer than the bound is cut, and the record says that it is not complete."""
    log, _, _ = tell(exchange(target=b"/" + b"a" * 65536))
    found = attributes(log.attributes)
    assert len(found["url.path"]) == http.MOST_TEXT_BYTES
    assert found["ebpf.exchange.missing"] == ["url.path"]
    assert len(log.body.string_value) < http.MOST_TEXT_BYTES + 100


@pytest.mark.parametrize(
    ("sampler", "arg", "parent", "sampled"),
    [
        ("always_on", 1, False, True),
        ("always_off", 1, True, False),
        ("parentbased_always_on", 1, None, True),
        ("parentbased_always_on", 1, False, False),
        ("parentbased_always_off", 1, None, False),
        ("parentbased_always_off", 1, True, True),
        ("traceidratio", 0.0, None, False),
        ("traceidratio", 1.0, None, True),
        ("parentbased_traceidratio", 0.0, True, True),
        ("parentbased_traceidratio", 0.0, "open", False),
    ],
)
def test_samplers(sampler: str, arg: float, parent: Any, *, sampled: bool) -> None:
    """Each sampler decides as its name says; an open decision of the caller is no decision."""
    decision = None if parent == "open" else parent
    trace = None if parent is None else TraceContext(b"t" * 16, b"p" * 8, decision)
    log, span, b = tell(exchange(trace=trace), traces_sampler=sampler, traces_sampler_arg=arg)
    assert (span is not None) is sampled
    assert b.ledger.total("span", "sampled_out", "sampler") == (not sampled)
    if not sampled:
        assert (log.trace_id, log.span_id) == ((b"t" * 16, b"p" * 8) if trace else (b"", b""))
        assert log.flags == 0


def test_ratio_samples_its_share() -> None:
    """A quarter of many traces is sampled, and the decision is the same for the same trace."""
    b = bench(exchange_logs="off", exchange_spans="all", traces_sampler="traceidratio", traces_sampler_arg=0.25)
    for sequence in range(4000):
        b.telemetry.exchange(exchange(sequence=sequence))
    b.telemetry.shutdown()
    assert 850 < len(b.kept.spans()) < 1150
    assert all(int.from_bytes(span.trace_id[8:], "big") < 2**62 for span in b.kept.spans())


def test_instrumented_workloads_get_no_spans_when_excluded() -> None:
    """With the setting a workload that sends spans of its own gets log records joined to its callers, and no spans."""
    log, span, b = tell(exchange(trace=PARENT), SomeEnricher(sends_spans=True), exclude_instrumented=True)
    assert span is None
    assert (log.trace_id, log.span_id) == (PARENT.trace_id, PARENT.span_id)
    assert b.ledger.total("span", "sampled_out", "instrumented") == 1
    assert tell(exchange(), SomeEnricher(sends_spans=True))[1] is not None


def test_resources_and_scope() -> None:
    """Records are grouped by workload under its Resource, with scope, version and schema URL."""
    b = bench(exchange_logs="all", exchange_spans="all")
    for edge in (raw_edge(b"a"), raw_edge(b"b"), raw_edge(b"a", remote="fd00::9", local="fd00::1")):
        b.telemetry.exchange(exchange(edge=edge, sequence=len(edge)))
    b.telemetry.shutdown()
    for signal, rows, inner in (("logs", "resource_logs", "scope_logs"), ("traces", "resource_spans", "scope_spans")):
        [message] = b.kept.messages(signal)
        found = [attributes(row.resource.attributes) for row in getattr(message, rows)]
        assert found == [{"service.name": "a"}, {"service.name": "b"}]
        for row in getattr(message, rows):
            [scope] = getattr(row, inner)
            assert (scope.scope.name, scope.scope.version) == ("otel_ebpf", "1.2.3")
            assert scope.schema_url == row.schema_url == "https://opentelemetry.io/schemas/1.44.0"


TIMES = st.integers(1, 2**50)
SIZES = st.none() | st.integers(0, 2**50)


@given(
    made=st.builds(
        exchange,
        edge=st.sampled_from([CLIENT, raw_edge(), raw_edge(remote="fd00::9", local="fd00::1")]),
        method=st.sampled_from([b"", b"GET", b"\xff"]) | st.binary(max_size=9),
        target=st.binary(max_size=300),
        version=st.sampled_from(["", "1.0", "1.1"]),
        status=st.none() | st.integers(100, 999),
        remote_port=st.integers(0, 65535),
        request_first_ns=st.just(0) | TIMES,
        request_last_ns=st.just(0) | TIMES,
        response_first_ns=st.just(0) | TIMES,
        response_last_ns=st.just(0) | TIMES,
        host=st.none() | st.binary(max_size=300),
        user_agent=st.none() | st.binary(max_size=300),
        trace=st.none()
        | st.builds(
            TraceContext,
            st.binary(min_size=16, max_size=16),
            st.binary(min_size=8, max_size=8),
            st.sampled_from([None, True]),
            st.binary(max_size=600),
        ),
        handshake_ns=st.just(0) | TIMES,
        request_header_bytes=SIZES,
        request_body_bytes=SIZES,
        response_header_bytes=SIZES,
        response_body_bytes=SIZES,
        srtt_us=st.integers(0, 2**32 - 1),
        retransmits=st.integers(0, 2**32 - 1),
        error_type=st.none() | st.just("reset"),
        missing=st.lists(st.sampled_from(["response", "body_size"]), max_size=2).map(tuple),
        shared=st.booleans(),
        tls=st.booleans(),
    )
)
def test_any_exchange_reads_back(made: Exchange) -> None:
    """Whatever an exchange holds, the official library reads its record and span, and they say what it held."""
    log, span, _ = tell(made)
    found = attributes(log.attributes)
    told = attributes(span.attributes)
    assert found.get("http.request.body.size") == told.get("http.request.body.size") == made.request_body_bytes
    assert found.get("http.response.body.size") == told.get("http.response.body.size") == made.response_body_bytes
    assert found.get("ebpf.http.request.header.size") == made.request_header_bytes
    assert found.get("ebpf.http.response.header.size") == made.response_header_bytes
    assert found["network.peer.port"] == told["network.peer.port"] == made.remote_port
    assert found["ebpf.tcp.retransmits"] == made.retransmits
    assert found.get("ebpf.tcp.rtt", 0) == made.srtt_us / 1e6
    assert found["ebpf.exchange.complete"] is (not made.missing)
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    assert span.start_time_unix_nano <= span.end_time_unix_nano
    sent, asked = made.request_first_ns, made.request_last_ns
    assert found.get("ebpf.phase.request.duration") == ((asked - sent) / 1e9 if sent and asked else None)
    if made.trace:
        assert (span.trace_id, span.parent_span_id) == (made.trace.trace_id, made.trace.span_id)
        assert span.trace_state.encode() == (made.trace.state if made.trace.state.isascii() else b"")
