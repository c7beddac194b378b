"""Whatever the calls of a connection look like.

Nothing raises, nothing grows, nothing is paired wrongly, the account closes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ebpf.protocols.http1.stream import MAX_WAITING_BYTES
from tests.pure.listening import Heard, hear, listen
from tests.pure.turn_builder import C, Conversation, edge

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = tuple[int, bytes]  # direction, bytes

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def request_bytes(number: int, body: int) -> bytes:
    """A request that its target names, with a body that looks like a request."""
    head = b"%s /%d HTTP/1.1\r\nHost: x\r\n" % (b"POST" if body else b"GET", number)
    return (
        head + (b"Content-Length: %d\r\n\r\n" % body if body else b"\r\n") + (b"GET / HTTP/1.1\r\n\r\n" * body)[:body]
    )


def response_bytes(number: int, kind: str, body: int) -> bytes:
    """A response to the request of that number, with a body of 10 bytes per number and *body* more."""
    size = number * 10 + body
    payload = (b"HTTP/1.1 200 OK\r\n\r\n" * size)[:size]
    if kind == "chunked":
        chunk = b"%x\r\n" % size + payload + b"\r\n" if size else b""
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    name = b"content-length" if kind == "lower" else b"Content-Length"
    return b"HTTP/1.1 200 OK\r\n" + name + b": %d\r\n\r\n" % size + payload


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Cut data at these places, as far as they are inside it."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return (data[a:b] for a, b in pairwise(edges))


exchanges = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(("length", "lower", "chunked")), st.integers(0, 30)),
    min_size=1,
    max_size=6,
)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


def body_of(message: bytes) -> int:
    """Bytes behind the head."""
    return len(message) - message.index(b"\r\n\r\n") - 4


@QUICK
@given(exchanges, cuts, st.booleans(), st.booleans())
def test_one_after_the_other(
    script: list[tuple[int, str, int]],
    cut: list[int],
    sweep: bool,  # noqa: FBT001  # drawn by hypothesis
    client: bool,  # noqa: FBT001  # drawn by hypothesis
) -> None:
    """Exchanges one after the other are told exactly, whatever the cuts and whenever the sweep comes."""
    conversation = Conversation(edge=edge(C["ROLE_CLIENT"] if client else C["ROLE_SERVER"]))
    expected = []
    for number, (asked, kind, extra) in enumerate(script):
        request, response = request_bytes(number, asked), response_bytes(number, kind, extra)
        expected.append((b"/%d" % number, asked, body_of(response)))
        for piece in pieces(request, cut):
            conversation.request(piece)
        for piece in pieces(response, cut):
            conversation.response(piece)
            if sweep:
                conversation.sweep()
    conversation.close()
    for delivery in ([conversation.sent()], conversation.ring):
        heard = hear(*delivery)
        assert [(e.target, e.request_body_bytes, e.response_body_bytes) for e in heard.exchanges] == expected
        assert all((e.status, e.error_type, e.missing) == (200, None, ()) for e in heard.exchanges)
        assert heard.dropped == {}
        assert len({e.sequence for e in heard.exchanges}) == len(expected)


def assert_never_mispaired(heard: Heard, expected: dict[bytes, int]) -> None:
    """Every exchange with a complete response has the response of its own request, and none is told twice."""
    targets = [e.target for e in heard.exchanges if e.method in (b"GET", b"POST") and "request_head" not in e.missing]
    assert len(targets) == len(set(targets))
    for exchange in heard.exchanges:
        whole = exchange.status == 200 and not exchange.missing and exchange.error_type is None
        if whole and exchange.target in expected:
            assert exchange.response_body_bytes == expected[exchange.target]


@QUICK
@given(exchanges, cuts, st.integers(1, 6), st.frozensets(st.integers(1, 12), max_size=3), st.booleans())
def test_pipelines_with_losses(
    script: list[tuple[int, str, int]],
    cut: list[int],
    window: int,
    lost: frozenset[int],
    one_by_one: bool,  # noqa: FBT001  # drawn by hypothesis
) -> None:
    """With several requests under way, any cuts and any turns lost, no response is given to another request."""
    conversation = Conversation(lost=lost)
    expected: dict[bytes, int] = {}
    numbered = list(enumerate(script))
    for at in range(0, len(numbered), window):
        batch = numbered[at : at + window]
        requests = b"".join(request_bytes(number, asked) for number, (asked, _, _) in batch)
        responses = [response_bytes(number, kind, extra) for number, (_, kind, extra) in batch]
        expected |= {b"/%d" % number: body_of(r) for (number, _), r in zip(batch, responses, strict=True)}
        for piece in pieces(requests, cut):
            conversation.request(piece)
        for written in responses if one_by_one else pieces(b"".join(responses), cut):
            conversation.response(written)
    heard = hear(*conversation.close().ring)
    assert_never_mispaired(heard, expected)


@QUICK
@given(exchanges, cuts, st.integers(1, 6))
def test_pipelines_written_whole(script: list[tuple[int, str, int]], cut: list[int], window: int) -> None:
    """Batches of requests in one write each, responses cut anywhere: every exchange is told, in order."""
    conversation = Conversation()
    expected = []
    numbered = list(enumerate(script))
    for at in range(0, len(numbered), window):
        batch = numbered[at : at + window]
        conversation.request(b"".join(request_bytes(number, 0) for number, _ in batch))
        responses = [response_bytes(number, kind, extra) for number, (_, kind, extra) in batch]
        expected += [(b"/%d" % number, body_of(r)) for (number, _), r in zip(batch, responses, strict=True)]
        for piece in pieces(b"".join(responses), cut):
            conversation.response(piece)
    heard = hear(*conversation.close().ring)
    assert [(e.target, e.response_body_bytes) for e in heard.exchanges] == expected


calls = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from(
                [
                    b"GET /n HTTP/1.1\r\n\r\n",
                    b"GET /",
                    b"POST /n HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
                    b"POST /n HTTP/1.1\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\nxx",
                    b"POST /n HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.1 204 No Content\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"0\r\n\r\n",
                    b"\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\nContent-Length: zz\r\n\r\n",
                    b"x" * 5000,
                ]
            ),
        ),
        st.sampled_from(["", "", "", "sweep", "unreadable", "lose"]),
    ),
    max_size=40,
)


@QUICK
@given(calls, st.booleans(), st.booleans())
def test_anything(
    script: list[tuple[bool, bytes, str]],
    joined: bool,  # noqa: FBT001  # drawn by hypothesis
    closes: bool,  # noqa: FBT001  # drawn by hypothesis
) -> None:
    """Any calls at all: nothing raises, the account closes, and nothing is left when the connection is gone."""
    conversation = Conversation(joined=joined)
    for is_request, data, mood in script:
        if mood == "lose":
            conversation.lost |= {conversation.sequence}
        call = conversation.request if is_request else conversation.response
        call(data, readable=mood != "unreadable")
        if mood == "sweep":
            conversation.sweep()
    if closes:
        conversation.close()
    intake, heard = listen()
    for ring in conversation.ring:
        intake.take(ring, 0)
        assert held_bytes(intake) <= 2 * MAX_WAITING_BYTES
    intake.expire(10**15)
    intake.finish()
    assert intake.pending == 0
    assert heard.closes()
    assert all(e.request_last_ns >= e.request_first_ns for e in heard.exchanges)


def held_bytes(intake: object) -> int:
    """Captured bytes that wait on all pending connections."""
    slow = intake._slow  # type: ignore[attr-defined]
    readers = [r for flow in slow.pending.values() for r in (flow.pairing.requests, flow.pairing.responses)]
    return sum(reader.stream.waiting_bytes for reader in readers)
