"""Trace context in every propagation format."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.exchange import TraceContext
from otel_ebpf.protocols.trace_context import NAMES, from_b3, from_sw8, from_traceparent, trace_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACE_ID = bytes.fromhex(TRACE)
SPAN_ID = bytes.fromhex(SPAN)


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f" 00-{TRACE}-{SPAN}-01\t", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_traceparent(value: str, sampled: bool) -> None:  # noqa: FBT001  # a test parameter
    """Valid values of this version and of later ones are read; the sampled flag is the first bit."""
    assert from_traceparent(value.encode(), b"k=v") == TraceContext(TRACE_ID, SPAN_ID, sampled, b"k=v")


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"01-{TRACE}-{SPAN}-01more",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_invalid_traceparent(value: str) -> None:
    """What the specification calls invalid is no context."""
    assert from_traceparent(value.encode()) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{TRACE}-{SPAN}-1", TraceContext(TRACE_ID, SPAN_ID, sampled=True)),
        (f"{TRACE}-{SPAN}-0-{SPAN}", TraceContext(TRACE_ID, SPAN_ID, sampled=False)),
        (f"{TRACE.upper()}-{SPAN}-d", TraceContext(TRACE_ID, SPAN_ID, sampled=True)),
        (f"{TRACE}-{SPAN}", TraceContext(TRACE_ID, SPAN_ID, sampled=None)),
        (f"{SPAN}-{SPAN}-1", TraceContext(bytes(8) + SPAN_ID, SPAN_ID, sampled=True)),
        ("0", None),
        (f"{TRACE}-{SPAN}-2", None),
        (f"{'0' * 32}-{SPAN}-1", None),
    ],
)
def test_b3_in_one_field(value: str, expected: TraceContext | None) -> None:
    """B3 in its single field, with 16 or 32 digits, with or without a decision."""
    assert from_b3(value.encode()) == expected


def test_b3_in_several_fields() -> None:
    """B3 in several fields; a missing decision is left open, the debug flag samples."""
    fields = {b"x-b3-traceid": TRACE.encode(), b"x-b3-spanid": SPAN.encode()}
    assert trace_context(fields) == TraceContext(TRACE_ID, SPAN_ID, sampled=None)
    assert trace_context(fields | {b"x-b3-sampled": b"0"}) == TraceContext(TRACE_ID, SPAN_ID, sampled=False)
    assert trace_context(fields | {b"x-b3-sampled": b"true"}) == TraceContext(TRACE_ID, SPAN_ID, sampled=True)
    assert trace_context(fields | {b"x-b3-flags": b"1"}) == TraceContext(TRACE_ID, SPAN_ID, sampled=True)
    assert trace_context({b"x-b3-traceid": TRACE.encode()}) is None


def sw8(trace: str, sample: str = "1") -> bytes:
    """A value of ``sw8`` as agents send it."""
    parts = [base64.b64encode(text.encode()).decode() for text in (trace, "segment.1", "svc", "inst", "/e", "a:80")]
    return f"{sample}-{parts[0]}-{parts[1]}-3-{'-'.join(parts[2:])}".encode()


def test_sw8() -> None:
    """Ids of SkyWalking map to the same bytes for every hop: as they are when they are 16 bytes, else hashed."""
    span_id = hashlib.blake2b(b"segment.1-3", digest_size=8).digest()
    assert from_sw8(sw8(TRACE)) == TraceContext(TRACE_ID, span_id, sampled=True)
    assert from_sw8(sw8("0af76519-16cd-43dd-8448-eb211c80319c", "0")) == TraceContext(TRACE_ID, span_id, sampled=False)
    text = "a4bd8a2c.53.16000001234560001"
    hashed = hashlib.blake2b(text.encode(), digest_size=16).digest()
    assert from_sw8(sw8(text)) == TraceContext(hashed, span_id, sampled=True)


@pytest.mark.parametrize(
    "value", [b"", b"1-a-b", b"1-!!-YQ==-3-YQ==-YQ==-YQ==-YQ==", sw8("t", "2"), sw8("") + b"-x", sw8("0" * 32)]
)
def test_invalid_sw8(value: bytes) -> None:
    """Values that are not of the eight fields are no context."""
    assert from_sw8(value) is None


def test_order_of_belief() -> None:
    """W3C goes before B3, and B3 before SkyWalking; an invalid one gives way to the next."""
    fields = {b"traceparent": b"00-junk", b"b3": f"{TRACE}-{SPAN}-1".encode(), b"sw8": sw8("t")}
    assert trace_context(fields) == TraceContext(TRACE_ID, SPAN_ID, sampled=True)
    other = f"00-{'a' * 32}-{SPAN}-00".encode()
    assert trace_context(fields | {b"traceparent": other}) == TraceContext(b"\xaa" * 16, SPAN_ID, sampled=False)
    assert trace_context({}) is None


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.binary(max_size=80)))
def test_anything(fields: dict[bytes, bytes]) -> None:
    """Whatever the fields hold, there is a context with ids of the right size or none."""
    context = trace_context(fields)
    assert context is None or (len(context.trace_id), len(context.span_id)) == (16, 8)
