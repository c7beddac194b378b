"""Exchanges as metrics: exact values, attributes, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.telemetry import exchanges as hot
from tests.pure.telemetry.making import (
    CLIENT,
    MS,
    OFFSET_NS,
    SERVER,
    START_NS,
    Bench,
    S,
    SomeEnricher,
    SomePeer,
    attributes,
    bench,
    exchange,
    points,
    raw_edge,
)

PEER = {"ebpf.peer.type": "external", "server.port": 80, "network.transport": "tcp", "network.type": "ipv4"}


def test_one_server_exchange_is_six_histograms() -> None:
    """An exchange on the server side is told as the conventions say, each value in its bucket."""
    b = bench()
    b.count(b"GET /users/7?x=1 HTTP/1.1")
    b.advance(10 * S)
    found = b.collect()["nginx"]
    expected = PEER | {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/users",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }
    sums = {}
    for name, metric in found.items():
        [point] = points(metric)
        role = {"ebpf.role": "server"} if name.startswith("ebpf.") else {}
        assert attributes(point.attributes) == expected | role
        assert (point.count, point.min, point.max) == (1, point.sum, point.sum)
        assert point.start_time_unix_nano == START_NS + OFFSET_NS
        assert point.time_unix_nano == START_NS + OFFSET_NS + 10 * S
        sums[name] = point.sum
    assert sums == {
        "http.server.request.duration": 0.012,
        "ebpf.http.time_to_first_byte": 0.009,
        "ebpf.http.request.header.size": 78,
        "http.server.request.body.size": 0,
        "ebpf.http.response.header.size": 230,
        "http.server.response.body.size": 612,
    }
    [point] = points(found["http.server.request.duration"])
    assert list(point.bucket_counts) == [0, 0, 1] + [0] * 13
    assert list(point.explicit_bounds)[:3] == [0.005, 0.01, 0.025]


def test_client_exchange_has_template_and_server() -> None:
    """On the client side the route is url.template, and server.address is what the peer is called."""
    b = bench(SomeEnricher(SomePeer("service", "shop", "prod")))
    b.count(edge=CLIENT)
    [point] = points(b.collect()["curl"]["http.client.request.duration"])
    assert attributes(point.attributes) == PEER | {
        "ebpf.peer.type": "service",
        "service.peer.name": "shop",
        "service.peer.namespace": "prod",
        "server.address": "shop",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.template": "/a",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }


@pytest.mark.parametrize(
    ("edge", "status", "error"),
    [(SERVER, 404, None), (SERVER, 500, "500"), (SERVER, 302, None), (CLIENT, 404, "404"), (CLIENT, 503, "503")],
)
def test_error_type_by_status(edge: bytes, status: int, error: str | None) -> None:
    """5xx is an error on both sides, 4xx only for the client that caused it."""
    b = bench()
    b.count(status=b"%d" % status, edge=edge)
    [rows] = [rows for service, rows in b.collect().items() if service != "otel-ebpf"]
    [point] = points(next(metric for name, metric in rows.items() if name.endswith("request.duration")))
    assert attributes(point.attributes).get("error.type") == error


@pytest.mark.parametrize(
    ("line", "method", "route", "version"),
    [
        (b"POST / HTTP/1.0", "POST", "/", "1.0"),
        (b"QUERY /q HTTP/1.1", "QUERY", "/q", "1.1"),
        (b"BREW /pot HTTP/1.1", "_OTHER", "/pot", "1.1"),
        (b"get /a HTTP/1.1", "_OTHER", "/a", "1.1"),
        (b"OPTIONS * HTTP/1.1", "OPTIONS", None, "1.1"),
        (b"CONNECT shop:443 HTTP/1.1", "CONNECT", None, "1.1"),
        (b"GET http://shop/a/b?c HTTP/1.1", "GET", "/a", "1.1"),
        (b"GET http://shop?c HTTP/1.1", "GET", "/", "1.1"),
        (b"GET /a b HTTP/1.1", "GET", "/a b", "1.1"),
        (b"\xff\xfe /\xff HTTP/1.1", "_OTHER", "/\ufffd", "1.1"),
    ],
)
def test_request_lines(line: bytes, method: str, route: str | None, version: str) -> None:
    """Every form of a request line gives the method, route and version it stands for."""
    b = bench()
    b.count(line)
    [point] = points(b.collect()["nginx"]["http.server.request.duration"])
    found = attributes(point.attributes)
    assert found["http.request.method"] == method
    assert found.get("http.route") == route
    assert found["network.protocol.version"] == version


def test_paths_of_one_route_are_one_series() -> None:
    """A thousand paths of one route are one point with a thousand exchanges."""
    b = bench()
    for index in range(1000):
        b.count(b"GET /users/%d HTTP/1.1" % index, duration_ns=index * MS)
    [point] = points(b.collect()["nginx"]["http.server.request.duration"])
    assert (point.count, point.sum) == (1000, sum(range(1000)) / 1000)
    assert (point.min, point.max) == (0, 0.999)


def test_unknown_sizes_are_left_out() -> None:
    """A size of -1 is in no histogram, while the exchange is still timed."""
    b = bench()
    b.count(rbody=-1)
    b.count()
    found = b.collect()["nginx"]
    assert points(found["http.server.response.body.size"])[0].count == 1
    assert points(found["http.server.request.duration"])[0].count == 2


def test_new_paths_for_ever_do_not_grow() -> None:
    """A service that never repeats a path costs no memory beyond the bound, and every exchange counts."""
    b = bench()
    total = hot.MOST_LINES * 3 + 17
    for index in range(total):
        b.count(b"GET /users/%d HTTP/1.1" % index)
    counter: Any = b.telemetry._exchanges
    assert len(counter._lines) <= hot.MOST_LINES
    assert len(counter._older) <= hot.MOST_LINES
    [point] = points(b.collect()["nginx"]["http.server.request.duration"])
    assert point.count == total


def test_pending_is_bounded() -> None:
    """However long nobody collects, no more exchanges wait to be folded than the bound and a round."""
    b = bench()
    for _ in range(hot.MOST_PENDING * 2):
        b.count()
    [series] = list(b.telemetry._aggregate.http["server"])
    assert len(series.pending) // series.WIDTH <= hot.MOST_PENDING + 100


def test_collections_in_delta_say_only_what_is_new() -> None:
    """In delta temporality every exchange is told in exactly one collection."""
    b = bench(temporality="delta")
    told = []
    for burst in (3, 0, 5):
        for _ in range(burst):
            b.count()
        b.advance(S)
        rows = b.collect().get("nginx", {})
        told.append(
            [(p.count, p.start_time_unix_nano - OFFSET_NS) for p in points(rows["http.server.request.duration"])]
            if rows
            else []
        )
    assert told == [[(3, START_NS)], [], [(5, START_NS + 2 * S)]]


def test_series_that_comes_back_has_a_new_start() -> None:
    """After the TTL a series is forgotten; counting again makes a new one, not the old one's ghost."""
    b = bench(metrics_ttl_s=60)
    b.count()
    b.collect()
    for _ in range(3):
        b.advance(30 * S)
        rows = b.collect()
    assert "nginx" not in rows
    b.count()
    b.advance(S)
    [point] = points(b.collect()["nginx"]["http.server.request.duration"])
    assert (point.count, point.start_time_unix_nano) == (1, START_NS + OFFSET_NS + 90 * S)


def test_limit_of_routes_overflows_into_one_point() -> None:
    """Beyond the cardinality limit exchanges are in the overflow point of their workload, and still counted."""
    b = bench(cardinality_limit=10)
    for index in range(30):
        b.count(b"GET /r%d HTTP/1.1" % index)
    found = b.collect()
    rows = points(found["nginx"]["http.server.request.duration"])
    assert len(rows) == 10
    [overflow] = [p for p in rows if "otel.metric.overflow" in attributes(p.attributes)]
    assert attributes(overflow.attributes) == {"otel.metric.overflow": True}
    assert (overflow.count, sum(p.count for p in rows)) == (21, 30)
    assert points(b.collect()["otel-ebpf"]["otel_ebpf.metric.series.refused"])[0].as_int == 21


def broken(**changes: Any) -> Exchange:
    """Return an exchange whose response never came."""
    return exchange(
        status=None,
        response_first_ns=0,
        response_last_ns=0,
        response_header_bytes=None,
        response_body_bytes=None,
        **changes,
    )


def one_point(b: Bench, name: str) -> Any:
    """Return the only point of a server metric."""
    [point] = points(b.collect()["nginx"][name])
    return point


def test_broken_exchange_has_its_reason_and_no_status() -> None:
    """An exchange cut short carries error.type and no invented status, timed as far as it went."""
    b = bench()
    b.telemetry.exchange(broken(error_type="reset"))
    point = one_point(b, "http.server.request.duration")
    found = attributes(point.attributes)
    assert found["error.type"] == "reset"
    assert "http.response.status_code" not in found
    assert point.sum == 0.001
    assert "ebpf.http.time_to_first_byte" not in b.collect()["nginx"]


def test_response_without_request_is_counted_without_duration() -> None:
    """Where the request was never seen there is no method and no duration, but the sizes that were seen."""
    b = bench()
    b.telemetry.exchange(
        exchange(method=b"", target=b"", request_first_ns=0, request_last_ns=0, missing=("request_head",))
    )
    rows = b.collect()["nginx"]
    assert "http.server.request.duration" not in rows
    [point] = points(rows["http.server.response.body.size"])
    assert point.count == 1
    assert "http.request.method" not in attributes(point.attributes)


def test_exchange_inside_tls_says_so() -> None:
    """What went through TLS has the scheme https and tls.established."""
    b = bench()
    b.telemetry.exchange(exchange(tls=True))
    found = attributes(one_point(b, "http.server.request.duration").attributes)
    assert (found["url.scheme"], found["tls.established"]) == ("https", True)


def test_ordinary_and_other_exchanges_share_their_series() -> None:
    """The same exchange told by either way is counted in the same point."""
    b = bench()
    b.count(b"GET /users/7?x=1 HTTP/1.1")
    b.telemetry.exchange(exchange())
    assert one_point(b, "http.server.request.duration").count == 2


def test_unwatched_edges_are_not_told_but_accounted_for() -> None:
    """What the selectors do not want is in no metric, log or span, and in the ledger as sampled out."""
    b = bench(SomeEnricher(unwatched={b"nginx"}), exchange_logs="all", exchange_spans="all", slow_threshold_s=0.001)
    for _ in range(5):
        assert b.count() in (True, False)
    b.telemetry.exchange(exchange())
    b.telemetry.detail(exchange())
    b.count(edge=raw_edge(b"other"))
    b.telemetry.shutdown()
    assert b.kept.logs() == b.kept.spans() == []
    assert b.ledger.total("exchange", "aggregated") == 1
    assert b.ledger.total("exchange", "sampled_out", "not_selected") == 6
    assert b.ledger.total("log", "seen") == 1


def test_enrichment_that_comes_late_applies_from_then_on() -> None:
    """A workload that gets its name later is told under it from the next collection on."""
    b = bench()
    b.count()
    assert "nginx" in b.collect()
    b.enricher.name_of = lambda _: "shop"
    b.count()
    assert points(b.collect()["shop"]["http.server.request.duration"])[0].count == 1


def test_enricher_ages_with_the_metrics() -> None:
    """The enrichment is told to forget once per TTL, and hears of the paths that clients asked for."""
    b = bench(metrics_ttl_s=120)
    b.count(b"POST /v1/traces HTTP/1.1", edge=CLIENT)
    assert b.enricher.requests == [b"/v1/traces"]
    for _ in range(4):
        b.advance(60 * S)
    assert b.enricher.aged == 2


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_a_step_of_the_wall_clock_moves_no_start(temporality: str) -> None:
    """When the wall clock is set, what was told as a start stays: a total keeps it, a difference joins the last one."""
    b = bench(temporality=temporality)
    told = []
    for step in (0, 7 * S, -3 * S):
        b.clock.offset_ns += step
        b.advance(10 * S)
        b.count()
        point = one_point(b, "http.server.request.duration")
        told.append((point.start_time_unix_nano - START_NS - OFFSET_NS, point.time_unix_nano - START_NS - OFFSET_NS))
    first = 10 * S
    ends = [10 * S, 27 * S, 34 * S]
    starts = [first, first, first] if temporality == "cumulative" else [first, *ends[:2]]
    assert told == list(zip(starts, ends, strict=True))
