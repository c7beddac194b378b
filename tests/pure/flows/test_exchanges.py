"""Scripted connections, cut into calls in every way that programs do, become the right exchanges."""

from __future__ import annotations

import pytest

from tests.pure.listening import hear, listen
from tests.pure.turn_builder import REQUEST, C, Conversation, edge, ring_record

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CLIENT = edge(C["ROLE_CLIENT"])


def test_ordinary_exchange() -> None:
    """One request and its response are one exchange, with the times and sizes of its turn."""
    ring = Conversation().request(GET, 100).response(OK, 300).request(GET, 900).sent()
    heard = hear(ring)
    assert heard.counted == [(edge(), b"GET /a HTTP/1.1", b"200", 200, 200, 28, 0, 38, 5)]
    (exchange,) = heard.exchanges
    assert (exchange.method, exchange.target, exchange.version, exchange.status) == (b"GET", b"/a", "1.1", 200)
    assert (exchange.host, exchange.user_agent, exchange.trace) == (b"x", None, None)
    assert (exchange.request_header_bytes, exchange.request_body_bytes) == (28, 0)
    assert (exchange.response_header_bytes, exchange.response_body_bytes) == (38, 5)
    assert (exchange.request_first_ns, exchange.response_last_ns, exchange.srtt_us) == (100, 300, 250)
    assert (exchange.missing, exchange.error_type, exchange.shared) == ((), None, False)


def test_fast_and_slow_path_agree() -> None:
    """An ordinary exchange is the same when its turn comes by the sweep, cut in two, and goes the slow path."""
    fast = hear(Conversation().request(GET, 100).response(OK, 300).request(GET, 900).sent())
    whole = Conversation().request(GET, 100).response(OK[:40], 200).sweep().response(OK[40:], 300).request(GET, 900)
    slow = hear(whole.sent())
    slow.exchanges[0].response_first_ns = fast.exchanges[0].response_first_ns
    assert slow.counted == []
    assert slow.exchanges == fast.exchanges


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 1000])
@pytest.mark.parametrize("sweep", [False, True])
def test_any_split_into_calls(size: int, sweep: bool) -> None:  # noqa: FBT001  # a test parameter
    """However both messages are cut into calls, and whenever the sweep comes by, there is one exchange."""
    post = b"POST /b?c=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nGET / again"
    conversation = Conversation()
    for at in range(0, len(post), size):
        conversation.request(post[at : at + size])
    for at in range(0, len(OK), size):
        conversation.response(OK[at : at + size])
        if sweep:
            conversation.sweep()
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"POST", b"/b?c=1", 200)]
    assert (heard.exchanges[0].request_body_bytes, heard.exchanges[0].response_body_bytes) == (11, 5)
    assert heard.exchanges[0].error_type is None


@pytest.mark.parametrize("search", [False, True])
def test_sixteen_pipelined_in_one_write_and_one_read(search: bool) -> None:  # noqa: FBT001  # a test parameter
    """Sixteen requests in one write and all responses in one read are sixteen exchanges, thanks to segments."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(16))
    responses = b"".join(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 60\r\n\r\n" % i + b"b" * 60 for i in range(16))
    conversation = Conversation(edge=CLIENT, search=search).request(requests, 1000).response(responses, 5000)
    conversation.request(GET, 6000).response(OK, 7000).close()
    heard = hear(conversation.sent())
    if search:
        assert heard.short == [(b"GET", b"/%d" % i, 200) for i in range(16)] + [(b"GET", b"/a", 200)]
        assert all(e.response_last_ns == 5000 and e.request_first_ns == 1000 for e in heard.exchanges[:16])
        assert all(e.shared and e.response_body_bytes == 60 and not e.missing for e in heard.exchanges[:16])
        assert [e.sequence for e in heard.exchanges] == list(range(1, 18))
    else:  # without segments most of the bytes are a gap, and nothing is invented for it
        assert all(status == 200 for _, _, status in heard.short)
        assert heard.short[:4] == [(b"GET", b"/%d" % i, 200) for i in range(4)]


def test_server_that_reads_1024_bytes_and_answers_one_by_one() -> None:
    """A server whose reads cut requests anywhere, and which writes each response by itself, is heard right."""
    requests = b"".join(b"GET /item/%d HTTP/1.1\r\nHost: example\r\nAccept: */*\r\n\r\n" % i for i in range(100))
    answered = 0
    conversation = Conversation()
    for at in range(0, len(requests), 1024):
        conversation.request(requests[at : at + 1024])
        for _ in range(requests[: at + 1024].count(b"\r\n\r\n") - answered):
            conversation.response(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 700\r\n\r\n" % answered + b"x" * 700)
            answered += 1
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"GET", b"/item/%d" % i, 200) for i in range(100)]
    assert {e.response_body_bytes for e in heard.exchanges} == {700}
    assert len({e.sequence for e in heard.exchanges}) == 100
    assert heard.dropped == {}


def test_streaming_pipeline() -> None:
    """A client that keeps eight requests outstanding, one more for each response, is paired in order."""
    one = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d"
    conversation = Conversation(edge=CLIENT).request(b"".join(one % i for i in range(8)))
    for i in range(40):
        conversation.response(answer % i)
        if i + 8 < 40:
            conversation.request(one % (i + 8))
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"GET", b"/%d" % i, 200) for i in range(40)]


def test_continue() -> None:
    """100 Continue is no response: the exchange has the final status, and its first byte is the final response's."""
    head = b"POST /up HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
    conversation = Conversation().request(head, 100).response(b"HTTP/1.1 100 Continue\r\n\r\n", 200)
    heard = hear(conversation.request(b"abcdef", 300).response(OK, 400).close().sent())
    (exchange,) = heard.exchanges
    assert (exchange.status, exchange.request_first_ns, exchange.request_last_ns) == (200, 100, 300)
    assert (exchange.response_first_ns, exchange.request_body_bytes) == (400, 6)


def test_early_hints_in_one_write_with_the_response() -> None:
    """103 and the final response in one buffer are one exchange."""
    both = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" + OK
    heard = hear(Conversation().request(GET).response(both).close().sent())
    assert heard.short == [(b"GET", b"/a", 200)]
    assert heard.exchanges[0].response_header_bytes == 38


def test_early_response() -> None:
    """A response that comes before the request is over waits for it; the body counts what was transferred."""
    conversation = Conversation().request(b"POST /u HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabcd", 100)
    conversation.response(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", 200).request(b"efghij", 300)
    heard = hear(conversation.request(GET, 400).response(OK, 500).close().sent())
    assert heard.short == [(b"POST", b"/u", 413), (b"GET", b"/a", 200)]
    assert (heard.exchanges[0].request_body_bytes, heard.exchanges[0].response_last_ns) == (10, 200)


def test_early_response_and_close() -> None:
    """An upload that is refused and given up is an exchange with its status, without an error."""
    conversation = Conversation().request(b"POST /u HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabcd", 100)
    conversation.response(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", 200)
    (exchange,) = hear(conversation.close().sent()).exchanges
    assert (exchange.status, exchange.error_type, exchange.request_body_bytes) == (413, None, 4)


def test_body_that_looks_like_a_message() -> None:
    """Calls that begin like a message inside a body make turns of the kernel, but no exchanges."""
    post = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK)
    conversation = Conversation().request(post).request(GET).response(answer).response(OK)
    heard = hear(conversation.request(GET).response(OK).close().sent())
    assert heard.short == [(b"POST", b"/p", 200), (b"GET", b"/a", 200)]
    assert (heard.exchanges[0].request_body_bytes, heard.exchanges[0].response_body_bytes) == (28, len(OK))


@pytest.mark.parametrize(
    ("request_bytes", "response_bytes", "status", "body"),
    [
        (b"HEAD /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200, 0),
        (b"HEAD /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, 0),
        (b"GET /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", 204, 0),
        (b"GET /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304, 0),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, 0),
        (b"PURGE /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, 2),
        (b"GET http://x/h HTTP/1.1\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, 2),
        (b"GET /h HTTP/1.0\n\n", b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok", 200, 2),
        (
            b"GET /h HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            200,
            22,
        ),
        (b"GET /h HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, 5),
    ],
)
def test_framing_on_a_connection_that_goes_on(
    request_bytes: bytes, response_bytes: bytes, status: int, body: int
) -> None:
    """A response is over where its own framing says so, and the next exchange follows right behind."""
    conversation = Conversation().request(request_bytes).response(response_bytes).request(GET).response(OK).close()
    target = request_bytes.split()[1]
    for delivery in ([conversation.sent()], conversation.ring):
        heard = hear(*delivery)
        assert heard.short == [(request_bytes.split()[0], target, status), (b"GET", b"/a", 200)]
        assert heard.exchanges[0].response_body_bytes == body
        assert all(e.missing == () and e.error_type is None for e in heard.exchanges)


def test_close_delimited() -> None:
    """A body without length ends with the connection, and that is no error; a reset is."""
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    talk = Conversation().request(GET, 100).response(head + b"abc", 200).response(b"HTTP/1.1 like", 900)
    (exchange,) = hear(talk.close().sent()).exchanges
    assert (exchange.response_body_bytes, exchange.response_last_ns, exchange.error_type) == (16, 900, None)
    talk = Conversation().request(GET, 100).response(head + b"abc", 200)
    (exchange,) = hear(talk.close(C["TURN_RESET_RECEIVED"]).sent()).exchanges
    assert (exchange.status, exchange.error_type) == (200, "reset")


def test_large_chunked_body_ends_with_its_tail() -> None:
    """A chunked body of which only the beginning was captured is over when its last bytes are the last chunk."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    conversation = Conversation().request(GET, 100)
    for i in range(4):
        conversation.response(head + body if i == 0 else body, 200 + i)
        conversation.sweep()
    conversation.response(b"0\r\n\r\n", 300).sweep()
    heard = hear(*conversation.ring)
    (exchange,) = heard.exchanges
    assert (exchange.response_body_bytes, exchange.response_last_ns) == (4 * len(body) + 5, 300)
    assert exchange.missing == ()
    heard = hear(*conversation.request(GET).response(OK).close().ring)
    assert heard.short == [(b"GET", b"/a", 200), (b"GET", b"/a", 200)]


def test_chunked_body_without_tail_ends_where_the_next_response_begins() -> None:
    """When the last chunk was not captured, the next exchange tells that the body is over."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"
    conversation = Conversation().request(GET, 100).response(head + b"x" * 600, 200)
    conversation.response(b"y" * 3505, 300, readable=False).sweep().request(GET, 400).response(OK, 500)
    heard = hear(*conversation.close().ring)
    assert [e.shared for e in heard.exchanges] == [False, False]
    assert heard.short == [(b"GET", b"/a", 200), (b"GET", b"/a", 200)]
    assert [e.response_last_ns for e in heard.exchanges] == [300, 500]


def test_sendfile_body() -> None:
    """Bytes that cannot be read are counted: the body is complete by its length."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"
    conversation = Conversation().request(GET, 100).response(head, 200).response(b"f" * 1048576, 300, readable=False)
    heard = hear(conversation.request(GET, 400).sent())
    (exchange,) = heard.exchanges
    assert len(heard.counted) == 1
    assert (exchange.response_body_bytes, exchange.response_last_ns, exchange.missing) == (1048576, 300, ())


def test_nothing_readable() -> None:
    """Of an exchange of which nothing can be read only the account speaks."""
    conversation = Conversation().request(b"?" * 90, 100, readable=False).response(b"?" * 900, 200, readable=False)
    heard = hear(conversation.request(GET, 300).response(OK, 400).close().sent())
    assert heard.short[-1:] == [(b"GET", b"/a", 200)]
    assert heard.dropped == {"unframed": 1}


def test_unreadable_response_head() -> None:
    """A response that cannot be read at all is still timed, its status unknown."""
    conversation = Conversation().request(GET, 100).response(b"?" * 900, 200, readable=False)
    heard = hear(conversation.request(GET, 300).response(OK, 400).close().sent())
    first, second = heard.exchanges
    assert (first.status, first.response_first_ns, first.missing) == (None, 200, ("response_head", "body_size"))
    assert (second.status, second.missing) == (200, ())


def test_upgrade() -> None:
    """101 ends HTTP on the connection: the exchange is told, what follows is not looked at."""
    conversation = Conversation().request(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 100)
    conversation.response(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello", 200)
    heard = hear(conversation.request(GET).response(OK).close().sent())
    (exchange,) = heard.exchanges
    assert (exchange.status, exchange.response_header_bytes, exchange.response_body_bytes) == (101, 56, 0)
    assert heard.dropped == {}


def test_connect() -> None:
    """CONNECT answered by 2xx is a tunnel; answered otherwise it is an exchange like any other."""
    connect = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
    talk = Conversation().request(connect).response(b"HTTP/1.1 200 OK\r\n\r\n").request(b"\x16\x03\x01").close()
    assert hear(talk.sent()).short == [(b"CONNECT", b"example.org:443", 200)]
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    talk = Conversation().request(connect).response(refusal).request(GET).response(OK).close()
    assert hear(talk.sent()).short == [(b"CONNECT", b"example.org:443", 403), (b"GET", b"/a", 200)]


@pytest.mark.parametrize(
    ("flags", "error"), [(0, "closed"), (C["TURN_RESET_SENT"], "reset"), (C["TURN_TIMED_OUT"], "timed_out")]
)
def test_no_response(flags: int, error: str) -> None:
    """A request that nobody answered before the connection ended has an error type and no status."""
    (exchange,) = hear(Conversation().request(GET, 100).close(flags).sent()).exchanges
    assert (exchange.status, exchange.error_type, exchange.response_last_ns) == (None, error, 0)


def test_response_cut_short() -> None:
    """A process that dies inside a response leaves a status, the bytes that went out, and an error type."""
    conversation = Conversation().request(GET, 100).response(OK[:-3], 200)
    (exchange,) = hear(conversation.close(C["TURN_RESET_RECEIVED"]).sent()).exchanges
    assert (exchange.status, exchange.error_type, exchange.response_body_bytes) == (200, "reset", 2)


def test_request_line_of_64_kib() -> None:
    """A request line beyond the bound keeps its method and the beginning of its target, marked as cut."""
    line = b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    conversation = Conversation()
    for at in range(0, len(line), 8192):
        conversation.request(line[at : at + 8192])
    conversation.response(b"HTTP/1.1 414 URI Too Long\r\nContent-Length: 0\r\n\r\n")
    heard = hear(*conversation.close().ring)
    (exchange,) = heard.exchanges
    assert (exchange.method, exchange.status, exchange.missing) == (b"GET", 414, ("request_head", "body_size"))
    assert exchange.target.startswith(b"/aaaa")
    assert len(exchange.target) == 65536 - 4


def test_headers_of_1_mib() -> None:
    """A head of a mebibyte is cut, its request line is known, and memory does not hold more than the bound."""
    intake, heard = listen()
    conversation = Conversation()
    conversation.request(b"GET /big HTTP/1.1\r\n")
    for i in range(1024):
        conversation.request(b"X-%04d: " % i + b"v" * 1014 + b"\r\n")
    conversation.request(b"\r\n").response(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
    for ring in conversation.close().ring:
        intake.take(ring, 0)
    assert heard.short == [(b"GET", b"/big", 431)]
    assert heard.exchanges[0].missing == ("request_head", "body_size")
    assert heard.exchanges[0].request_header_bytes is None
    assert {outcome for stage, outcome, _ in heard.rows if stage == "segment"} == {"seen", "passed"}
    assert intake.pending == 0


def test_long_head_in_segments() -> None:
    """A head longer than the room in the turn comes in segments and is complete."""
    get = b"GET /c HTTP/1.1\r\nCookie: " + b"c" * 3000 + b"\r\nHost: late\r\n\r\n"
    heard = hear(Conversation().request(get).response(OK).request(GET).response(OK).close().sent())
    assert heard.short == [(b"GET", b"/c", 200), (b"GET", b"/a", 200)]
    assert (heard.exchanges[0].host, heard.exchanges[0].request_header_bytes) == (b"late", len(get))
    assert heard.exchanges[0].missing == ()


def test_binary_noise() -> None:
    """Bytes that only began like a request are counted as not HTTP."""
    noise = b"ABCDEF\x00\x01\x02" * 40
    heard = hear(Conversation().request(noise).response(b"\x00" * 50).request(noise).close().sent())
    assert heard.exchanges == []
    assert heard.dropped["not_http"] >= 1


def test_answer_that_is_not_http() -> None:
    """A request whose answer is not HTTP is told with an error type, and not with an invented status."""
    heard = hear(Conversation().request(GET).response(b"SSH-2.0-OpenSSH_9.2\r\n").close().sent())
    (exchange,) = heard.exchanges
    assert (exchange.status, exchange.error_type) == (None, "malformed_response")


def test_request_that_never_ends() -> None:
    """Headers without end: the server's answer belongs to what there is; without an answer the close says so."""
    conversation = Conversation().request(b"GET /slow HTTP/1.1\r\n")
    for i in range(50):
        conversation.request(b"X-%d: 1\r\n" % i)
    answered = hear(conversation.response(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").close().sent())
    assert answered.short == [(b"GET", b"/slow", 408)]
    assert "request_head" in answered.exchanges[0].missing
    silent = hear(Conversation().request(b"GET /slow HTTP/1.1\r\nX: 1\r\n").close().sent())
    assert silent.short == [(b"GET", b"/slow", None)]
    assert silent.exchanges[0].error_type == "closed"


def test_response_without_request() -> None:
    """A server that says 408 to a silent client and closes: a response whose request was never there."""
    conversation = Conversation().response(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 700)
    (exchange,) = hear(conversation.close().sent()).exchanges
    assert (exchange.method, exchange.status, exchange.request_first_ns) == (b"", 408, 700)
    assert exchange.missing == ("request_head", "body_size")


def test_response_told_before_its_request() -> None:
    """Two threads on one socket may be told of in the wrong order; the pair is found, and time runs forwards."""
    conversation = Conversation(edge=CLIENT).response(OK, 1000).request(GET, 1500).request(GET, 2000).response(OK, 2100)
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"GET", b"/a", 200), (b"GET", b"/a", 200)]
    assert heard.exchanges[0].response_last_ns >= heard.exchanges[0].request_first_ns
    assert heard.exchanges[1].response_last_ns == 2100


def test_old_response_is_not_the_answer() -> None:
    """A response that stood there long before the request does not answer it."""
    late = 10_000_000_000
    conversation = Conversation().response(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 1000)
    heard = hear(*conversation.request(GET, late).response(OK, late + 5).close().ring)
    assert heard.short == [(b"", b"", 408), (b"GET", b"/a", 200)]


def test_joined_inside_a_response() -> None:
    """The rest of an exchange older than the agent is accounted for, and the next one is the first told."""
    conversation = Conversation(joined=True).response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    heard = hear(*conversation.request(GET).response(OK).request(GET).response(OK).close().ring)
    assert heard.short == [(b"GET", b"/a", 200)] * 2
    assert heard.dropped == {"joined": 1}


def test_joined_between_exchanges() -> None:
    """A keep-alive client connected before the agent is seen from its first request on."""
    conversation = Conversation(joined=True).request(GET).response(OK).request(GET).response(OK).close()
    assert hear(*conversation.ring).short == [(b"GET", b"/a", 200)] * 2


def test_joined_inside_a_request_body() -> None:
    """The rest of a body is no request, and the response to it no exchange."""
    conversation = Conversation(joined=True).request(b"some more of a body").response(OK).request(GET).response(OK)
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"GET", b"/a", 200)]


def test_lost_ordinary_turn() -> None:
    """A lost turn takes its own exchange with it and no other."""
    conversation = Conversation(lost=frozenset({2}))
    for i in range(4):
        conversation.request(b"GET /%d HTTP/1.1\r\n\r\n" % i).response(OK)
    assert hear(*conversation.close().ring).short == [(b"GET", b"/%d" % i, 200) for i in (0, 2, 3)]


def test_lost_turn_inside_a_body() -> None:
    """A lost turn inside a body of known length loses nothing."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(OK))
    conversation = Conversation(lost=frozenset({2})).request(GET).response(answer).response(OK).response(OK)
    heard = hear(*conversation.request(GET).response(OK).close().ring)
    assert heard.short == [(b"GET", b"/a", 200)] * 2
    assert heard.exchanges[0].response_body_bytes == 2 * len(OK)


def test_lost_turn_with_responses_under_way() -> None:
    """Behind a lost response of a pipeline nothing is paired any more, and every request is accounted for."""
    lost = frozenset({3})
    requests = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(4))
    conversation = Conversation(lost=lost).request(requests)
    for _ in range(4):
        conversation.response(OK)
    for i in range(4, 8):
        conversation.request(b"GET /%d HTTP/1.1\r\n\r\n" % i).response(OK)
    heard = hear(*conversation.close().ring)
    assert heard.short == [(b"GET", b"/0", 200), (b"GET", b"/1", 200)]
    assert heard.dropped == {"turn_lost": 6}


def test_lost_request_turn_before_a_late_response() -> None:
    """The response to a request in a lost turn is not given to the next request."""
    conversation = Conversation(lost=frozenset({1})).request(b"GET /lost HTTP/1.1\r\n\r\n")
    conversation.request(b"GET /next HTTP/1.1\r\n\r\n").response(OK).response(OK)
    heard = hear(*conversation.close().ring)
    assert heard.exchanges == []
    assert heard.dropped == {"turn_lost": 1}


def test_snapshot_is_told_once() -> None:
    """An exchange that the sweep reported is not told again when its connection closes."""
    conversation = Conversation().request(GET).response(OK).sweep().close()
    intake, heard = listen()
    for ring in conversation.ring:
        intake.take(ring, 0)
    assert heard.short == [(b"GET", b"/a", 200)]
    assert (intake.turns, intake.snapshots) == (1, 1)


def test_snapshot_of_an_unfinished_response() -> None:
    """A response that pauses is not told before it is over."""
    conversation = Conversation().request(GET, 100).response(OK[:-2], 200).sweep()
    intake, heard = listen()
    intake.take(conversation.sent(), 0)
    assert heard.exchanges == []
    intake.take(b"".join(conversation.response(OK[-2:], 900).sweep().ring[1:]), 0)
    assert [e.response_last_ns for e in heard.exchanges] == [900]


def test_handshake_belongs_to_the_first_exchange_of_a_client() -> None:
    """The handshake is the first exchange's, on the side that waited for it."""
    for role, expected in ((C["ROLE_CLIENT"], [77, 0]), (C["ROLE_SERVER"], [0, 0])):
        conversation = (
            Conversation(edge=edge(role), handshake_ns=77).request(GET).response(OK).request(GET).response(OK)
        )
        assert [e.handshake_ns for e in hear(conversation.close().sent()).exchanges] == expected


def test_discarded_records_and_other_flows() -> None:
    """Discarded records are passed over, and connections do not disturb each other."""
    one, two = Conversation(flow_id=1), Conversation(flow_id=2)
    one.request(GET).response(OK).close()
    two.request(GET[:10]).sweep().request(GET[10:]).response(OK).close()
    discarded = ring_record(one.ring[0][8:], 1 << 30)
    heard = hear(discarded + two.ring[0] + one.ring[0] + discarded)
    assert [(e.flow_id, e.status) for e in heard.exchanges] == [(2, 200), (1, 200)]


def test_finish_tells_what_is_under_way() -> None:
    """At the end of the agent's life what is under way is told as not ended."""
    intake, heard = listen()
    conversation = Conversation().request(GET).response(OK[:-1]).sweep()
    waiting = Conversation(flow_id=2).request(GET).request(GET)
    intake.take(conversation.sent() + waiting.sent(), 0)
    intake.finish()
    assert [(e.flow_id, e.status, e.missing) for e in heard.exchanges] == [(1, 200, ("end",)), (2, None, ("response",))]
    assert heard.closes()


def test_idle_limits() -> None:
    """A response without an end that can be known is told after a silence; a request waits longer for its answer."""
    intake, heard = listen()
    event_stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    intake.take(Conversation().request(GET).response(event_stream).sweep().sent(), 0)
    intake.take(Conversation(flow_id=2).request(GET).request(GET).sent(), 0)
    intake.expire(59_000_000_000)
    assert heard.exchanges == []
    intake.expire(61_000_000_000)
    assert [(e.flow_id, e.missing) for e in heard.exchanges] == [(1, ("end",))]
    intake.expire(901_000_000_000)
    assert [(e.flow_id, e.missing) for e in heard.exchanges[1:]] == [(2, ("response",))]


def test_direction_names() -> None:
    """Requests are direction 0 on the border."""
    assert REQUEST == 0


def test_long_response_head() -> None:
    """A response head longer than its room is told without sizes when the next request came, marked as cut."""
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"h" * 1200 + b"\r\nContent-Length: 5\r\n\r\nhello"
    heard = hear(
        Conversation().request(GET, 100).response(answer, 300).request(GET, 400).response(OK, 500).close().sent()
    )
    assert heard.counted[0] == (edge(), b"GET /a HTTP/1.1", b"200", 200, 200, 28, 0, -1, -1)
    first, second = heard.exchanges
    assert (first.response_header_bytes, first.response_body_bytes) == (None, None)
    assert (first.missing, second.missing) == (("response_head", "body_size"), ())


def test_long_request_head_is_counted_like_a_short_one() -> None:
    """An exchange that is ordinary but for the length of its request head is told by count, with its sizes."""
    get = b"POST /c HTTP/1.1\r\nCookie: " + b"c" * 6000 + b"\r\nHost: late\r\nContent-Length: 3\r\n\r\nabc"
    conversation = Conversation(edge=CLIENT, handshake_ns=9).request(get[:1000], 90).request(get[1000:], 100)
    heard = hear(conversation.response(OK, 300).close().sent())
    assert heard.counted == [(CLIENT, b"POST /c HTTP/1.1", b"200", 210, 210, len(get) - 3, 3, 38, 5)]
    assert (heard.exchanges[0].host, heard.exchanges[0].handshake_ns) == (b"late", 9)


@pytest.mark.parametrize(
    "exchange",
    [
        (b"POST /e HTTP/1.1\r\nContent-Length: 0\r\n\r\n", OK),
        (b"DELETE /e HTTP/1.1\r\nHost: x\r\n\r\n", OK.replace(b"Content", b"content")),
        (b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", OK),
        (b"GET /e HTTP/1.1\r\nContent-Type: x/y\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (b"HEAD /e HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
        (GET.replace(b"/a", b"/e"), b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        (GET.replace(b"/a", b"/e"), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            GET.replace(b"/a", b"/e"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"k" * 1024 + b"\r\n0\r\n\r\n",
        ),
    ],
)
def test_what_counts_as_ordinary(exchange: tuple[bytes, bytes]) -> None:
    """All of these are counted on the fast path, and the slow path tells the same of them."""
    request, response = exchange
    plain = Conversation().request(request, 100).response(response, 200).request(GET, 300)
    fast = hear(plain.sent())
    assert (len(fast.counted), len(fast.exchanges)) == (1, 1)
    slow = hear(Conversation().request(request[:9], 100).response(b"", 100).request(request[9:], 100).sent())
    assert slow.exchanges == []
    swept = Conversation().request(request, 100).response(response[:13], 200).sweep().response(response[13:], 200)
    told = hear(swept.request(GET, 300).response(OK, 400).sent())
    assert told.counted[0:1] == []
    assert told.exchanges[0] == fast.exchanges[0]


@pytest.mark.parametrize(
    ("request_bytes", "response"),
    [
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"),
        (GET, b"HTTP/1.1 200 OK\r\n\r\nhello"),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        (GET, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (GET, b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", OK),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", OK),
        (b"GET / HTTP/2.0\r\n\r\n", OK),
    ],
)
def test_what_does_not(request_bytes: bytes, response: bytes) -> None:
    """Incomplete, unframed, interim and strange ones are left to the slow path."""
    heard = hear(Conversation().request(request_bytes).response(response).request(GET).sent())
    assert heard.counted == []
