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
_REMOTE_PARENT: Final = _SAMPLED | _HAS_IS_REMOTE | _IS_REMOTE
_LOCAL_PARENT: Final = _SAMPLED | _HAS_IS_REMOTE

# LogRecord: time_unix_nano 1, observed_time_unix_nano 11; flags 8, trace_id 9, span_id 10
_LOG_TIMES: Final = struct.Struct("<cQcQ").pack
_LOG_TIME: Final = wire.tag(1, wire.FIXED64)
_LOG_OBSERVED: Final = wire.tag(11, wire.FIXED64)
_LOG_FLAGS: Final = wire.tag(8, wire.FIXED32)
_LOG_TRACE_ID: Final = wire.tag(9, wire.LENGTH) + b"\x10"
_LOG_SPAN_ID: Final = wire.tag(10, wire.LENGTH) + b"\x08"

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
        self._log_rtt[0] = b""  # unknown
        self._span_sizes = tuple(
            wire.cached_attribute(SPAN_ATTRIBUTES, key)
            for key in (names.HTTP_REQUEST_BODY_SIZE, names.HTTP_RESPONSE_BODY_SIZE)
        )
        self._span_peer_port = wire.cached_attribute(SPAN_ATTRIBUTES, names.NETWORK_PEER_PORT)
        self._body = wire.Cached(_body_prefix)
        self._state = wire.cached_prefix(3, 512)  # W3C Trace Context, 3.3.1.1: 512 characters

    def log(  # noqa: PLR0913, PLR0917 - what a record is made of
        self, exchange: Exchange, shape: Shape, trace: SpanContext | None, severity: int, took_ns: int, offset_ns: int,
        observed_ns: int,
    ) -> bytes:  # fmt: skip
        """Return a ``LogRecord`` without ``shape.log``.

        *trace* names its span, *took_ns* is its duration, *offset_ns* turns its times into Unix time, *observed_ns* is
        Unix time.
        """
        header, body, response_header, response_body = self._log_sizes
        sent, asked = exchange.request_first_ns, exchange.request_last_ns
        answered, done = exchange.response_first_ns, exchange.response_last_ns
        if trace is None or exchange.handshake_ns or not (sent and asked and answered and done):
            fixed = _log_head((sent or answered) + offset_ns, observed_ns, trace) + _phases(exchange)
        else:
            fixed = _LOG_ALL(
                _LOG_TIME, sent + offset_ns, _LOG_OBSERVED, observed_ns,
                _LOG_FLAGS, _SAMPLED if trace[4] else 0, _LOG_TRACE_ID, trace[0], _LOG_SPAN_ID, trace[1],
                _REQUEST, (asked - sent) / 1e9, _WAIT, (answered - asked) / 1e9 if answered > asked else 0.0,
                _RESPONSE, (done - answered) / 1e9,
            )  # fmt: skip
        asked_for, rb = shape.line, exchange.response_body_bytes
        took = b"- %.3fms" % (took_ns / 1e6) if rb is None else b"%d %.3fms" % (rb, took_ns / 1e6)
        return b"".join((
            fixed,
            SEVERITIES[severity],
            header[exchange.request_header_bytes],
            body[exchange.request_body_bytes],
            response_header[exchange.response_header_bytes],
            response_body[rb],
            self._log_peer_port[exchange.remote_port],
            self._log_rtt[exchange.srtt_us],
            self._body[len(asked_for) + len(took)],
            asked_for,
            took,
        ))  # fmt: skip

    def span(self, exchange: Exchange, context: SpanContext, offset_ns: int) -> bytes:
        """Return a ``Span`` without ``Shape.span``; *offset_ns* turns the exchange's times into Unix time."""
        body, response_body = self._span_sizes
        trace_id, span_id, parent, state, _ = context
        flags = _REMOTE_PARENT if parent else _LOCAL_PARENT
        sent, asked, answered = exchange.request_first_ns, exchange.request_last_ns, exchange.response_first_ns
        begin = (sent or answered) + offset_ns
        end = (exchange.response_last_ns or asked) + offset_ns
        if exchange.handshake_ns or not (sent and asked and answered):
            fixed = _SPAN_HEAD(
                _SPAN_TRACE_ID, trace_id, _SPAN_ID, span_id,
                _SPAN_START, begin, _SPAN_END, end if end > begin else begin, _SPAN_FLAGS, flags,
            ) + _events(exchange, offset_ns)  # fmt: skip
        else:
            fixed = _SPAN_ALL(
                _SPAN_TRACE_ID, trace_id, _SPAN_ID, span_id,
                _SPAN_START, begin, _SPAN_END, end if end > begin else begin, _SPAN_FLAGS, flags,
                _EVENT_REQUEST, begin, _EVENT_WAIT, asked + offset_ns, _EVENT_RESPONSE, answered + offset_ns,
            )  # fmt: skip
        return b"".join((
            fixed,
            _SPAN_PARENT + parent if parent else b"",
            self._state[len(state)] + state if state else b"",
            body[exchange.request_body_bytes],
            response_body[exchange.response_body_bytes],
            self._span_peer_port[exchange.remote_port],
        ))  # fmt: skip

    def both(  # noqa: PLR0913, PLR0917 - what a record is made of
        self, exchange: Exchange, shape: Shape, context: SpanContext, severity: int, took_ns: int, offset_ns: int,
        observed_ns: int,
    ) -> tuple[bytes, bytes]:  # fmt: skip
        """Return what ``log`` and ``span`` do of a sampled exchange that waited for no handshake, all times known."""
        trace_id, span_id, parent, state, _ = context
        sent, asked = exchange.request_first_ns, exchange.request_last_ns
        answered, done = exchange.response_first_ns, exchange.response_last_ns
        begin, port, asked_for = sent + offset_ns, exchange.remote_port, shape.line
        b, rb = exchange.request_body_bytes, exchange.response_body_bytes
        header, body, response_header, response_body = self._log_sizes
        span_body, span_response_body = self._span_sizes
        took = b"- %.3fms" % (took_ns / 1e6) if rb is None else b"%d %.3fms" % (rb, took_ns / 1e6)
        log = b"".join((
            _LOG_ALL(
                _LOG_TIME, begin, _LOG_OBSERVED, observed_ns, _LOG_FLAGS, _SAMPLED, _LOG_TRACE_ID, trace_id,
                _LOG_SPAN_ID, span_id, _REQUEST, (asked - sent) / 1e9, _WAIT,
                (answered - asked) / 1e9 if answered > asked else 0.0, _RESPONSE, (done - answered) / 1e9,
            ),
            SEVERITIES[severity], header[exchange.request_header_bytes], body[b],
            response_header[exchange.response_header_bytes], response_body[rb], self._log_peer_port[port],
            self._log_rtt[exchange.srtt_us], self._body[len(asked_for) + len(took)], asked_for, took,
        ))  # fmt: skip
        return log, b"".join((
            _SPAN_ALL(
                _SPAN_TRACE_ID, trace_id, _SPAN_ID, span_id, _SPAN_START, begin, _SPAN_END, begin + took_ns,
                _SPAN_FLAGS, _REMOTE_PARENT if parent else _LOCAL_PARENT,
                _EVENT_REQUEST, begin, _EVENT_WAIT, asked + offset_ns, _EVENT_RESPONSE, answered + offset_ns,
            ),
            _SPAN_PARENT + parent if parent else b"", self._state[len(state)] + state if state else b"",
            span_body[b], span_response_body[rb], self._span_peer_port[port],
        ))  # fmt: skip


def span_ns(exchange: Exchange) -> int:
    """Return first byte seen to last byte seen, in ns."""
    begin = exchange.request_first_ns or exchange.response_first_ns
    end = exchange.response_last_ns or exchange.request_last_ns
    return end - begin if end > begin else 0


def _log_head(time_ns: int, observed_ns: int, trace: SpanContext | None) -> bytes:
    if trace is None:
        return _LOG_TIMES(_LOG_TIME, time_ns, _LOG_OBSERVED, observed_ns)
    trace_id, span_id, _, _, sampled = trace
    return _LOG_HEAD(
        _LOG_TIME, time_ns, _LOG_OBSERVED, observed_ns,
        _LOG_FLAGS, _SAMPLED if sampled else 0, _LOG_TRACE_ID, trace_id, _LOG_SPAN_ID, span_id,
    )  # fmt: skip


def _phases(exchange: Exchange) -> bytes:
    """Return the phases that are known.

    An answer that came before the request had ended leaves no time to wait: 0, never less.
    """
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


def _events(exchange: Exchange, offset_ns: int) -> bytes:
    """Return the events of the phases that are known."""
    sent, asked, answered = exchange.request_first_ns, exchange.request_last_ns, exchange.response_first_ns
    starts = ((_EVENT_REQUEST, sent), (_EVENT_WAIT, asked), (_EVENT_RESPONSE, answered))
    found = b"".join(prefix + _U64(at + offset_ns) for prefix, at in starts if at)
    if exchange.handshake_ns and sent:
        return _EVENT_CONNECT + _U64(sent - exchange.handshake_ns + offset_ns) + found
    return found
