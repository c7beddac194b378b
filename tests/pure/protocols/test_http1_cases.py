"""HTTP/1 messages of every framing, each in five deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pure.protocols.deliveries import DELIVERIES, Case, Wire, sizes

if TYPE_CHECKING:
    from collections.abc import Callable

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_POST = b"PUT /p HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nDigest: 1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CASES = [
    Case("content_length", GET, OK, 200, (32, 0, 38, 3)),
    Case("request_body", POST, OK, 200, (48, 5, 38, 3)),
    Case("chunked_request", CHUNKED_POST, OK, 200, (53, 30, 38, 3)),
    Case("chunked", GET, CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, (32, 0, 47, 28)),
    Case("chunked_with_trailers", GET, CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\nZ: 0\r\n\r\n", 200, (32, 0, 47, 25)),
    Case("chunked_empty", GET, CHUNKED + b"0\r\n\r\n", 200, (32, 0, 47, 5)),
    Case(
        "chunked_overrides_length",
        GET,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\ntransfer-encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        200,
        (32, 0, 67, 11),
    ),
    Case("until_close", GET, b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 404 no", 200, (32, 0, 19, 15), closes=True),
    Case("not_chunked_last", GET, CHUNKED.replace(b"chunked", b"gzip") + b"xyz", 200, (32, 0, 44, 3), closes=True),
    Case("head", b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200, (19, 0, 39, 0)),
    Case("no_content", GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, (32, 0, 46, 0)),
    Case("not_modified", GET, b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, (32, 0, 29, 0)),
    Case("no_reason", GET, b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", 500, (32, 0, 35, 0)),
    Case("interim", POST, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\n\r\n" + OK, 200, (48, 5, 38, 3)),
    Case("upgrade", GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", 101, (32, 0, 50, 0), tunnel=True),
    Case("connect", b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", 200, (24, 0, 19, 0), tunnel=True),
    Case("asterisk", b"OPTIONS * HTTP/1.1\r\n\r\n", OK, 200, (22, 0, 38, 3)),
    Case("absolute", b"GET http://x/y?z HTTP/1.0\r\n\r\n", OK, 200, (29, 0, 38, 3)),
    Case("extension_method", b"VERSION-CONTROL /v HTTP/1.1\r\n\r\n", OK, 200, (31, 0, 38, 3)),
    Case(
        "bare_line_feeds",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        200,
        (24, 0, 35, 2),
    ),
    Case("empty_lines_before", b"\r\n\r\n" + GET, b"\r\n" + OK, 200, (32, 0, 38, 3)),
    Case("folded", GET, b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 3\r\nX: a\r\n\tb\r\n\r\nabc", 200, (32, 0, 50, 3)),
    Case(
        "equal_lengths",
        GET,
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\ncontent-length: 3\r\n\r\nabc",
        200,
        (32, 0, 60, 3),
    ),
    Case("blank_before_colon", GET, b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", 200, (32, 0, 39, 3)),
    Case("target_with_blanks", b"GET /a b HTTP/1.1\r\n\r\n", OK, 200, (21, 0, 38, 3)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda delivery: delivery.__name__)
def test_case(case: Case, delivery: Callable[[Case], None]) -> None:
    """Each case is told exactly when it is there, and never told wrongly when it is not."""
    delivery(case)


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: +3",
        b"Content-Length: -3",
        b"Content-Length: 3x",
        b"Content-Length:",
        b"Content-Length: 0x3",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 9223372036854775808",
    ],
)
def test_length_that_means_nothing(field: bytes) -> None:
    """A length that is contradictory or no number is unknown: the response ends where the next one begins."""
    wire = Wire().request(GET).response(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\nabc")
    assert wire.exchanges == []
    wire.request(GET).response(OK)
    assert [(e.status, e.response_body_bytes) for e in wire.exchanges] == [(200, 3), (200, 3)]


def test_request_with_a_length_that_means_nothing() -> None:
    """A request whose end cannot be told is over with its response, and the next request is found."""
    wire = Wire().request(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc").response(OK)
    assert [(e.method, e.status) for e in wire.exchanges] == [(b"POST", 200)]
    wire.request(b"de").request(GET).response(OK)
    assert [(e.method, e.status) for e in wire.exchanges] == [(b"POST", 200), (b"GET", 200)]


def test_transfer_encoding_in_http_1_0() -> None:
    """RFC 9112, 6.1: such a message is faulty; its end is unknown until the connection closes."""
    wire = Wire().request(GET).response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").close()
    assert [(e.status, e.missing) for e in wire.exchanges] == [(200, ("end",))]


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"\r\n", b"-1\r\n", b"5\r\nhelloX\r\n", b"11111111111111111\r\n", b"5" + b" " * 5000]
)
def test_faulty_chunks(body: bytes) -> None:
    """Chunks that break the grammar leave the end unknown, not wrong."""
    wire = Wire().request(GET).response(CHUNKED + body).close()
    assert [(e.status, e.missing) for e in wire.exchanges] == [(200, ("end",))]


def test_gap_inside_chunk_data() -> None:
    """A gap inside the data of a chunk loses nothing."""
    wire = Wire().request(GET).response(CHUNKED + b"64\r\nab", gap=90).response(b"c" * 8 + b"\r\n0\r\n\r\n")
    assert [(e.status, e.response_body_bytes, e.missing) for e in wire.exchanges] == [(200, 111, ())]


def test_first_byte_of_the_final_response() -> None:
    """Time to first byte is the final response's, not an interim one's."""
    wire = Wire().request(POST).response(b"HTTP/1.1 100 Continue\r\n\r\n").response(OK[:9]).response(OK[9:])
    (exchange,) = wire.exchanges
    assert (exchange.request_first_ns, exchange.response_first_ns, exchange.response_last_ns) == (1, 3, 4)


def test_thousand_pipelined() -> None:
    """A thousand requests may be under way; more are dropped and counted, and nothing is paired wrongly behind them."""
    wire = Wire().request(GET * 1000).response(OK * 1000)
    assert len(wire.exchanges) == 1000
    assert wire.pairing.idle
    wire = Wire().request(GET * 1100).response(OK * 1100)
    assert wire.exchanges == []
    assert wire.dropped == ["queue_full"] * 1100


def test_never_grows() -> None:
    """A head without end, and responses that nobody asked for, hold no more than their bound."""
    wire = Wire().request(b"GET / HTTP/1.1\r\n")
    for _ in range(5000):
        wire.request(b"X: " + b"y" * 995 + b"\r\n")
        assert wire.pairing.requests.stream.waiting_bytes <= 66000
    for _ in range(2000):
        wire = wire.response(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"z" * 900)
        assert wire.pairing.responses.stream.waiting_bytes <= 262144


def test_details() -> None:
    """Host, user agent and trace context are read wherever they stand, in any case."""
    request = (
        b"GET / HTTP/1.1\r\nuser-agent:  curl/8 \r\nX-Host: no\r\nHOST: example.org:8080\r\n"
        b"Tracestate: a=1\r\ntracestate: b=2\r\n"
        b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
    )
    (exchange,) = Wire().request(request).response(OK).exchanges
    assert (exchange.host, exchange.user_agent) == (b"example.org:8080", b"curl/8")
    assert exchange.trace is not None
    assert (exchange.trace.trace_id.hex(), exchange.trace.state) == ("0af7651916cd43dd8448eb211c80319c", b"a=1,b=2")


def test_sizes_of_a_cut_head_are_unknown() -> None:
    """When a response head was not wholly captured its status is told and its sizes are not."""
    wire = Wire().request(GET).response(OK[:20], gap=30).close()
    assert [(e.status, sizes(e), e.missing) for e in wire.exchanges] == [
        (200, (32, 0, None, None), ("response_head", "body_size", "end"))
    ]
