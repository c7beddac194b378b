# ruff: noqa: FURB136 - max() is a call, and this runs for every record
"""OTLP bytes of exchanges: one log record and one span each, assembled from parts that seldom change.

In: an exchange, its shape and its place in a trace. Out: ``LogRecord`` and ``Span`` of opentelemetry-proto v1.
"""

from __future__ import annotations

import struct
from typing import Final

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.shape import LOG_ATTRIBUTES, SEVERITIES, SPAN_ATTRIBUTES, Shape
from otel_ebpf.telemetry.trace import SpanContext

_SAMPLED: Final = 0x01
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
"""``SpanFlags`` of trace.proto: the parent came over the network."""

# LogRecord: time_unix_nano 1, observed_time_unix_nano 11; flags 8, trace_id 9, span_id 10
_LOG_TIMES: Final = struct.Struct("<cQcQ").pack
_LOG_TIME: Final = wire.tag(1, wire.FIXED64)
_LOG_OBSERVED: Final = wire.tag(11, wire.FIXED64)
_LOG_FLAGS: Final = wire.tag(8, wire.FIXED32)
_LOG_TRACE_ID: Final = wire.tag(9, wire.LENGTH) + b"\x10"
_LOG_SPAN_ID: Final = wire.tag(10, wire.LENGTH) + b"\x08"

LogTrace = tuple[bytes, bytes, bool]
"""Trace id, span id and sampled flag of a log record."""

# Span: trace_id 1, span_id 2, start 7, end 8, flags 16
_SPAN_HEAD: Final = struct.Struct("<2s16s2s8scQcQ2sI").pack
_SPAN_TRACE_ID: Final = wire.tag(1, wire.LENGTH) + b"\x10"
_SPAN_ID: Final = wire.tag(2, wire.LENGTH) + b"\x08"
_SPAN_START: Final = wire.tag(7, wire.FIXED64)
_SPAN_END: Final = wire.tag(8, wire.FIXED64)
_SPAN_FLAGS: Final = wire.tag(16, wire.FIXED32)
_SPAN_PARENT: Final = wire.tag(4, wire.LENGTH) + b"\x08"

_REQUEST: Final = wire.double_prefix(LOG_ATTRIBUTES, names.PHASE_REQUEST)
_WAIT: Final = wire.double_prefix(LOG_ATTRIBUTES, names.PHASE_WAIT)
_RESPONSE: Final = wire.double_prefix(LOG_ATTRIBUTES, names.PHASE_RESPONSE)
# The ordinary case: everything of a fixed length in one call.
_LOG_HEAD: Final = struct.Struct("<cQcQcI2s16s2s8s").pack
_PHASES: Final = struct.Struct(f"<{len(_REQUEST)}sd{len(_WAIT)}sd{len(_RESPONSE)}sd").pack
_LOG_ALL: Final = struct.Struct(f"<cQcQcI2s16s2s8s{len(_REQUEST)}sd{len(_WAIT)}sd{len(_RESPONSE)}sd").pack

_EVENT: Final = 11
"""``Span.events``"""


def _event_prefix(name: str) -> bytes:
    """Return all of a span event but its time: name (2), then time_unix_nano (1), whose length never changes."""
    return wire.lengthy(_EVENT, wire.text(2, name) + wire.fixed64(1, 0))[:-8]


_EVENT_CONNECT: Final = _event_prefix("ebpf.phase.connect")
_EVENT_REQUEST: Final = _event_prefix("ebpf.phase.request")
_EVENT_WAIT: Final = _event_prefix("ebpf.phase.wait")
_EVENT_RESPONSE: Final = _event_prefix("ebpf.phase.response")
_SPAN_ALL: Final = struct.Struct(
    f"<2s16s2s8scQcQ2sI{len(_EVENT_REQUEST)}sQ{len(_EVENT_WAIT)}sQ{len(_EVENT_RESPONSE)}sQ"
).pack
_U64: Final = struct.Struct("<Q").pack


def _body_prefix(length: int) -> bytes:
    """Return what stands before the text of ``LogRecord.body``: two lengths, one inside the other."""
    inner = wire.tag(1, wire.LENGTH) + wire.varint(length)
    return wire.tag(5, wire.LENGTH) + wire.varint(len(inner) + length) + inner


class Encoder:
    """Assembles records. Holds the bytes of small numbers that repeat: sizes, ports, round-trip times."""

    def __init__(self) -> None:
        self._log_sizes = tuple(
            wire.cached_attribute(LOG_ATTRIBUTES, key)
            for key in (
                names.REQUEST_HEADER_SIZE,
                names.HTTP_REQUEST_BODY_SIZE,
                names.RESPONSE_HEADER_SIZE,
                names.HTTP_RESPONSE_BODY_SIZE,
            )
        )
        self._log_peer_port = wire.cached_attribute(LOG_ATTRIBUTES, names.NETWORK_PEER_PORT)
        self._log_rtt = wire.Cached(lambda us: wire.key_value(LOG_ATTRIBUTES, names.TCP_RTT, us / 1e6))
        self._span_sizes = tuple(
            wire.cached_attribute(SPAN_ATTRIBUTES, key)
            for key in (names.HTTP_REQUEST_BODY_SIZE, names.HTTP_RESPONSE_BODY_SIZE)
        )
        self._span_peer_port = wire.cached_attribute(SPAN_ATTRIBUTES, names.NETWORK_PEER_PORT)
        self._body = wire.Cached(_body_prefix)
        self._state = wire.cached_prefix(3, 512)  # W3C Trace Context, 3.3.1.1: 512 characters

    def log(  # noqa: PLR0913, PLR0917 - what a record is made of
        self, exchange: Exchange, shape: Shape, trace: LogTrace | None, severity: int, took_ns: int, offset_ns: int,
        observed_ns: int,
    ) -> bytes:  # fmt: skip
        """Return a ``LogRecord`` without ``shape.log``.

        *took_ns* is its duration, *offset_ns* turns its times into Unix time, *observed_ns* is Unix time.
        """
        header, body, response_header, response_body = self._log_sizes
        h, b = exchange.request_header_bytes, exchange.request_body_bytes
        rh, rb = exchange.response_header_bytes, exchange.response_body_bytes
        took = took_ns / 1e6
        line = b"%b- %.3fms" % (shape.line, took) if rb is None else b"%b%d %.3fms" % (shape.line, rb, took)
        rtt = exchange.srtt_us
        return b"".join(
            (
                _log_fixed(exchange, trace, offset_ns, observed_ns),
                SEVERITIES[severity],
                b"" if h is None else header[h],
                b"" if b is None else body[b],
                b"" if rh is None else response_header[rh],
                b"" if rb is None else response_body[rb],
                self._log_peer_port[exchange.remote_port],
                self._log_rtt[rtt] if rtt else b"",
                self._body[len(line)],
                line,
            )
        )

    def span(self, exchange: Exchange, context: SpanContext, offset_ns: int) -> bytes:
        """Return a ``Span`` without ``Shape.span``; *offset_ns* turns the exchange's times into Unix time."""
        body, response_body = self._span_sizes
        b, rb = exchange.request_body_bytes, exchange.response_body_bytes
        _, _, parent, state, _ = context
        return b"".join(
            (
                _span_fixed(exchange, context, offset_ns),
                _SPAN_PARENT + parent if parent else b"",
                self._state[len(state)] + state if state else b"",
                b"" if b is None else body[b],
                b"" if rb is None else response_body[rb],
                self._span_peer_port[exchange.remote_port],
            )
        )


def span_ns(exchange: Exchange) -> int:
    """Return first byte seen to last byte seen, in ns."""
    begin = exchange.request_first_ns or exchange.response_first_ns
    end = exchange.response_last_ns or exchange.request_last_ns
    return end - begin if end > begin else 0


def _log_fixed(exchange: Exchange, trace: LogTrace | None, offset_ns: int, observed_ns: int) -> bytes:
    """Return times, identity and phases of a ``LogRecord``.

    An answer that came before the request had ended leaves no time to wait: 0, never less.
    """
    sent, asked = exchange.request_first_ns, exchange.request_last_ns
    answered, done = exchange.response_first_ns, exchange.response_last_ns
    if exchange.handshake_ns or not (sent and asked and answered and done):
        return _log_head((sent or answered) + offset_ns, observed_ns, trace) + _phases(exchange)
    wait = answered - asked
    if trace is None:
        return _LOG_TIMES(_LOG_TIME, sent + offset_ns, _LOG_OBSERVED, observed_ns) + _PHASES(
            _REQUEST, (asked - sent) / 1e9, _WAIT, wait / 1e9 if wait > 0 else 0.0, _RESPONSE, (done - answered) / 1e9
        )
    trace_id, span_id, sampled = trace
    return _LOG_ALL(
        _LOG_TIME, sent + offset_ns, _LOG_OBSERVED, observed_ns,
        _LOG_FLAGS, _SAMPLED if sampled else 0, _LOG_TRACE_ID, trace_id, _LOG_SPAN_ID, span_id,
        _REQUEST, (asked - sent) / 1e9, _WAIT, wait / 1e9 if wait > 0 else 0.0, _RESPONSE, (done - answered) / 1e9,
    )  # fmt: skip


def _log_head(time_ns: int, observed_ns: int, trace: LogTrace | None) -> bytes:
    if trace is None:
        return _LOG_TIMES(_LOG_TIME, time_ns, _LOG_OBSERVED, observed_ns)
    trace_id, span_id, sampled = trace
    return _LOG_HEAD(
        _LOG_TIME, time_ns, _LOG_OBSERVED, observed_ns,
        _LOG_FLAGS, _SAMPLED if sampled else 0, _LOG_TRACE_ID, trace_id, _LOG_SPAN_ID, span_id,
    )  # fmt: skip


def _phases(exchange: Exchange) -> bytes:
    """Return the phases that are known."""
    sent, asked = exchange.request_first_ns, exchange.request_last_ns
    answered, done = exchange.response_first_ns, exchange.response_last_ns
    found = []
    if exchange.handshake_ns:
        found.append((names.PHASE_CONNECT, exchange.handshake_ns))
    if sent and asked:
        found.append((names.PHASE_REQUEST, asked - sent))
    if asked and answered:
        found.append((names.PHASE_WAIT, max(answered - asked, 0)))
    if answered and done:
        found.append((names.PHASE_RESPONSE, done - answered))
    return wire.key_values(LOG_ATTRIBUTES, ((key, ns / 1e9) for key, ns in found))


def _span_fixed(exchange: Exchange, context: SpanContext, offset_ns: int) -> bytes:
    """Return identity, times, flags and events of a ``Span``: one event where each phase begins."""
    trace_id, span_id, parent, _, _ = context
    flags = _SAMPLED | _HAS_IS_REMOTE | _IS_REMOTE if parent else _SAMPLED | _HAS_IS_REMOTE
    sent, asked, answered = exchange.request_first_ns, exchange.request_last_ns, exchange.response_first_ns
    begin = (sent or answered) + offset_ns
    end = (exchange.response_last_ns or asked) + offset_ns
    if exchange.handshake_ns or not (sent and asked and answered):
        return _SPAN_HEAD(
            _SPAN_TRACE_ID, trace_id, _SPAN_ID, span_id,
            _SPAN_START, begin, _SPAN_END, end if end > begin else begin, _SPAN_FLAGS, flags,
        ) + _events(exchange, offset_ns)  # fmt: skip
    return _SPAN_ALL(
        _SPAN_TRACE_ID, trace_id, _SPAN_ID, span_id,
        _SPAN_START, begin, _SPAN_END, end if end > begin else begin, _SPAN_FLAGS, flags,
        _EVENT_REQUEST, begin, _EVENT_WAIT, asked + offset_ns, _EVENT_RESPONSE, answered + offset_ns,
    )  # fmt: skip


def _events(exchange: Exchange, offset_ns: int) -> bytes:
    """Return the events of the phases that are known."""
    sent, asked, answered = exchange.request_first_ns, exchange.request_last_ns, exchange.response_first_ns
    starts = ((_EVENT_REQUEST, sent), (_EVENT_WAIT, asked), (_EVENT_RESPONSE, answered))
    found = b"".join(prefix + _U64(at + offset_ns) for prefix, at in starts if at)
    if exchange.handshake_ns and sent:
        return _EVENT_CONNECT + _U64(sent - exchange.handshake_ns + offset_ns) + found
    return found
