"""Trace context: the caller's trace, in whichever propagation format it was sent.

In: the head of a request. Out: a :class:`TraceContext`, or None. Formats, in the order they are believed: W3C Trace
Context (https://www.w3.org/TR/trace-context/), B3 in one field and in several
(https://github.com/openzipkin/b3-propagation), SkyWalking's ``sw8``
(https://skywalking.apache.org/docs/main/latest/en/api/x-process-propagation-headers-v3/).
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from binascii import Error, unhexlify
from typing import TYPE_CHECKING, Final

from otel_ebpf.protocols.exchange import TraceContext

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES: Final = frozenset(
    (b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-flags", b"sw8")
)
"""The fields that carry a trace context, in lower case."""

# Trace Context, 3.2.2: version "-" trace-id "-" parent-id "-" trace-flags, all in lower-case hexadecimal digits.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_B3 = re.compile(rb"([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})-([0-9A-Fa-f]{16})(?:-([01dD])(?:-[0-9A-Fa-f]{16})?)?")
_HEX_TRACE = re.compile(rb"[0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}")
_HEX_SPAN = re.compile(rb"[0-9A-Fa-f]{16}")
_UUID = re.compile(rb"[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}")
# The same of version 00, where all stands in its place: without a regular expression it takes two thirds of the time.
_PLAIN: Final = struct.Struct("<3s32sc16sc2s").unpack_from
_HEX_DIGITS: Final = b"0123456789abcdef"
PLAIN_BYTES: Final = 55
"""Length of a ``traceparent`` of version 00 (Trace Context, 3.2.2)."""
_ODD_DIGITS: Final = b"13579bdf"
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_new: Final = tuple.__new__  # a named tuple at half the price: there is one per exchange
_SW8_FIELDS: Final = 8
_MAX_STATE_BYTES: Final = 8192  # sixteen times the 512 that Trace Context, 3.3.1.5 asks everybody to carry


def trace_context(fields: Mapping[bytes, bytes]) -> TraceContext | None:
    """Return the context that *fields* (lower-case names to values) carry; None when none of them does so validly."""
    w3c = fields.get(b"traceparent")
    return (
        (from_traceparent(w3c, fields.get(b"tracestate", b"")) if w3c else None)
        or from_b3(fields.get(b"b3", b""))
        or from_b3_fields(fields)
        or from_sw8(fields.get(b"sw8", b""))
    )


def from_traceparent(value: bytes, state: bytes = b"") -> TraceContext | None:
    """Read W3C ``traceparent`` and ``tracestate``.

    Trace Context, 3.2.2: version ff is invalid, so are ids of zeros only and upper-case digits; version 00 has exactly
    four fields, a later one may have more behind them. Of the flags only the first bit is read: sampled.
    """
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more):
        return None
    kept = state if len(state) <= _MAX_STATE_BYTES else b""
    return _context(trace, span, sampled=flags[1] in _ODD_DIGITS, state=kept)


def from_plain_traceparent(buffer: bytes, at: int, state: bytes) -> TraceContext | None:
    """Read the ``PLAIN_BYTES`` at *at*, which are there, as a ``traceparent`` of version 00; None when it is none.

    *state* is taken as it is: the caller knows it from an equal head.
    """
    version, trace, dash, span, other_dash, flags = _PLAIN(buffer, at)
    if version != b"00-" or dash != b"-" or other_dash != b"-" or (trace + span + flags).translate(None, _HEX_DIGITS):
        return None
    trace_id, span_id = unhexlify(trace), unhexlify(span)
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return _new(TraceContext, (trace_id, span_id, flags[1] in _ODD_DIGITS, state))


def from_b3(value: bytes) -> TraceContext | None:
    """Read ``b3: {trace}-{span}-{sampled}-{parent}``.

    The last two may be missing; ``d`` means debug, which implies sampled. A lone decision (``b3: 0``) names no trace.
    """
    match = _B3.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    trace, span, decision = match.groups()
    return _context(trace, span, sampled=None if decision is None else decision != b"0")


def from_b3_fields(fields: Mapping[bytes, bytes]) -> TraceContext | None:
    """Read ``X-B3-TraceId``, ``X-B3-SpanId``, ``X-B3-Sampled`` (also ``true`` and ``false``) and ``X-B3-Flags: 1``."""
    trace = fields.get(b"x-b3-traceid", b"").strip(b" \t")
    span = fields.get(b"x-b3-spanid", b"").strip(b" \t")
    if not _HEX_TRACE.fullmatch(trace) or not _HEX_SPAN.fullmatch(span):
        return None
    decisions = {b"1": True, b"true": True, b"d": True, b"0": False, b"false": False}
    sampled = decisions.get(fields.get(b"x-b3-sampled", b"").strip(b" \t").lower())
    if fields.get(b"x-b3-flags", b"").strip(b" \t") == b"1":
        sampled = True
    return _context(trace, span, sampled=sampled)


def from_sw8(value: bytes) -> TraceContext | None:
    """Read SkyWalking's ``sw8``: ``{sample}-{trace}-{segment}-{span}-{service}-{instance}-{endpoint}-{address}``.

    Trace and segment id are base64 of free text. A trace id that is 32 hexadecimal digits or a UUID is used as it is;
    any other (``{uuid}.{thread}.{time and number}``) is mapped to 16 bytes by BLAKE2b, the same for every hop of the
    trace but not readable back. The caller's span has no id of its own in SkyWalking: its 8 bytes are BLAKE2b of
    segment id and span number.
    """
    parts = value.strip(b" \t").split(b"-")
    if len(parts) != _SW8_FIELDS or parts[0] not in (b"0", b"1") or not parts[3].isdigit():
        return None
    trace, segment = _base64(parts[1]), _base64(parts[2])
    if not trace or not segment:
        return None
    if _UUID.fullmatch(trace):
        trace_id = unhexlify(trace.replace(b"-", b""))
    else:
        trace_id = hashlib.blake2b(trace, digest_size=16).digest()
    span_id = hashlib.blake2b(segment + b"-" + parts[3], digest_size=8).digest()
    if trace_id == _NO_TRACE:
        return None
    return TraceContext(trace_id, span_id, sampled=parts[0] == b"1")


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except Error:
        return b""


def _context(trace: bytes, span: bytes, *, sampled: bool | None, state: bytes = b"") -> TraceContext | None:
    """Ids from hexadecimal digits, a short trace id padded on the left; None when either is all zeros."""
    trace_id = unhexlify(trace.rjust(32, b"0"))
    span_id = unhexlify(span)
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, sampled, state)
