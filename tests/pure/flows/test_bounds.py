"""What is kept is bounded, and what is cut is counted."""

from __future__ import annotations

from otel_ebpf.flows.bounds import Bounds
from otel_ebpf.flows.pending import Part, Piece, pieces
from otel_ebpf.flows.segments import OBJECT_BYTES, Segment, Segments
from otel_ebpf.protocols.http1.stream import MAX_MARKS, MAX_WAITING_BYTES, Stream
from tests.pure.listening import listen
from tests.pure.turn_builder import Conversation

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_pending_connections() -> None:
    """Beyond the bound the oldest pending connection gives way; its exchange is counted, its next one is told."""
    intake, heard = listen(Bounds(max_pending=2))
    talks = [Conversation(flow_id=i).request(GET).request(GET) for i in range(1, 5)]
    for talk in talks:
        intake.take(talk.sent(), 0)
    assert intake.pending == 2
    assert heard.dropped == {"pending_full": 2}
    last = Conversation(flow_id=9).request(GET).response(OK).request(GET)
    intake.take(last.sent(), 0)
    assert heard.short == [(b"GET", b"/a", 200)]
    assert heard.closes()


def test_remembered_connections() -> None:
    """Beyond the bound the connection remembered longest is forgotten; it is heard again, a turn later at most."""
    intake, heard = listen(Bounds(max_flows=3))
    talks = [Conversation(flow_id=i).request(GET).response(OK) for i in range(1, 6)]
    for talk in talks:
        intake.take(talk.sweep().sent(), 0)
    intake.expire(0)
    for talk in talks:
        talk.ring.clear()
        intake.take(talk.request(GET).response(OK).request(GET).response(OK).close().sent(), 0)
    assert len(heard.exchanges) == 15
    assert heard.closes()


def test_segments() -> None:
    """Segments are bounded per connection and in all, and forgotten with their connection or after a long silence."""
    segments = Segments(Bounds(max_segment_bytes=1000 + OBJECT_BYTES, max_all_segment_bytes=2000))
    big = Segment(1, 0, 0, 0, b"x" * 1000)
    assert segments.put(1, big, 10)
    assert not segments.put(1, big, 10)
    assert not segments.put(2, big, 10)
    assert segments.put(2, Segment(1, 0, 0, 0, b"y"), 20)
    segments.expire(15)
    assert segments.pop(1, 1) == []
    assert segments.pop(2, 2) == []  # it belonged to a turn that was lost
    assert segments.cost_bytes == 0


def test_stream_keeps_a_gap_when_it_is_full() -> None:
    """Captured bytes beyond the room of a stream are a gap."""
    stream = Stream(0)
    assert stream.put(b"a" * MAX_WAITING_BYTES, MAX_WAITING_BYTES, 1, 1)
    assert not stream.put(b"b" * 10, MAX_WAITING_BYTES + 10, 2, 2)
    stream.consume(MAX_WAITING_BYTES)
    assert (bytes(stream.front()), stream.gap(), stream.first_ns()) == (b"", 10, 2)
    assert stream.put(b"c", MAX_WAITING_BYTES + 11, 3, 3)
    stream.consume(10)
    assert (bytes(stream.front()), stream.last_ns(stream.end)) == (b"c", 3)


def test_stream_shares_times_when_there_are_too_many_calls() -> None:
    """Calls beyond the bound share the times of the last one."""
    stream = Stream(0)
    for at in range(MAX_MARKS + 5):
        stream.put(b"x", at + 1, at, at)
    assert len(list(stream.calls())) == MAX_MARKS
    assert stream.last_ns(stream.end) == MAX_MARKS + 4


def test_pieces_of_a_run() -> None:
    """Segments give their bytes and times; what they do not cover comes from the turn, and the rest is a gap."""
    part = Part(100, 120, b"abcdef", 7, 9)
    segments = [Segment(1, 0, 104, 8, b"EFGH"), Segment(1, 0, 110, 9, b"KLM")]
    assert list(pieces(part, segments, 100)) == [
        Piece(b"abcd", 104, 7, 7),
        Piece(b"EFGH", 108, 8, 8),
        Piece(b"", 110, 7, 7),
        Piece(b"KLM", 113, 9, 9),
        Piece(b"", 120, 7, 9),
    ]
    assert list(pieces(part, segments, 111)) == [Piece(b"LM", 113, 9, 9), Piece(b"", 120, 7, 9)]
    assert list(pieces(part, [], 103)) == [Piece(b"def", 120, 7, 9)]
