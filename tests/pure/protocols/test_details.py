"""What a request says about itself, read from heads that repeat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.http1.details import MOST_HEADS, KnownHeads, details

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NAMES = (b"Host", b"host", b"User-Agent", b"traceparent", b"Traceparent", b"X-Traceparent", b"tracestate", b"b3", b"X")
VALUES = (
    TRACE,
    TRACE.replace(b"b7", b"b8"),
    TRACE[:-1] + b"0",
    TRACE.upper(),
    b"00-" + b"0" * 32 + TRACE[35:],
    TRACE[:36] + b"0" * 16 + b"-01",
    b"cc" + TRACE[2:],
    TRACE + b"-more",
    TRACE + b" ",
    b" " + TRACE,
    TRACE[:35] + b"a" + TRACE[36:],
    TRACE[:-2] + b"g1",
    TRACE[:20],
    TRACE[3:-3],
    b"",
    b"shop.example",
    b"say raceparent: " + TRACE,
    b"a=1",
)

fields = st.builds(lambda name, value: b"\r\n" + name + b": " + value, st.sampled_from(NAMES), st.sampled_from(VALUES))
heads = st.lists(fields, max_size=5).map(lambda lines: b"".join(lines) + b"\r\n\r\n")


def head(number: int, more: bytes = b"") -> bytes:
    """Return a header section with a trace of its own."""
    return b"\r\nHost: a\r\n%btraceparent: 00-%032x-%016x-01\r\ntracestate: x=1\r\n\r\n" % (more, number, number)


@given(st.lists(heads, max_size=30))
def test_a_known_head_reads_as_any_other(found: list[bytes]) -> None:
    """Whatever was read before, a head says what it says alone, wherever it stands."""
    known = KnownHeads()
    for block in found * 2:
        assert known.read(b"GET / HTTP/1.1" + block + b"body", 14, 14 + len(block)) == details(block)


def test_only_the_trace_context_differs() -> None:
    """Heads that repeat but for their trace are one entry, and each keeps its own trace and the common state."""
    known = KnownHeads()
    for number in range(1, 2000):
        block = head(number)
        host, _, trace = known.read(block, 0, len(block))
        assert host == b"a"
        assert trace is not None
        assert (trace.trace_id, trace.span_id) == (number.to_bytes(16, "big"), number.to_bytes(8, "big"))
        assert (trace.sampled, trace.state) == (True, b"x=1")
    assert len(known._known) == 1


def test_heads_that_never_repeat_are_bounded() -> None:
    """Cookies that differ each time, and heads that are long, take no more room than there is."""
    known = KnownHeads()
    for number in range(1, 3 * MOST_HEADS):
        for block in (head(1, b"Cookie: %d\r\n" % number), head(1, b"Cookie: %d%b\r\n" % (number, b"c" * 1024))):
            assert known.read(block, 0, len(block)) == details(block)
            assert len(known._known) <= MOST_HEADS
            assert len(known._older) <= MOST_HEADS
