"""The exchange: a request and its response, as protocol units and times.

In: what a protocol package decided. Out: the one value that aggregates, logs and spans are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class TraceContext(NamedTuple):
    """The caller's trace context, whichever header carried it.

    Attributes:
        trace_id: 16 bytes.
        span_id: 8 bytes: the caller's span, our parent.
        sampled: The caller's decision; None when it left the decision open.
        state: ``tracestate`` as it stood on the wire; empty when absent.
    """

    trace_id: bytes
    span_id: bytes
    sampled: bool | None
    state: bytes = b""


@dataclass(slots=True)
class Exchange:
    """One request and its response. A field that cannot be known is None; times are ns since boot, sizes bytes.

    Attributes:
        flow_id: The flow it went over.
        sequence: Number of the exchange on its flow, rising from 1: with the flow it names the exchange. Interim and
            lost ones leave gaps.
        edge: The raw 72 bytes of ``struct edge_key``.
        local_port: Port of this end.
        remote_port: Port of the other end.
        method: The method as sent; empty when the request was not seen.
        target: The request target as sent (RFC 9112, 3.2), with its query; empty when not seen.
        version: ``1.0``, ``1.1``.
        status: The final status code; None when none was seen.
        host: Host header, as sent.
        user_agent: User-Agent header, as sent.
        trace: The caller's trace context.
        request_first_ns: First byte of the request (for a sending end: when the call that sent it returned).
        request_last_ns: Last byte of the request.
        response_first_ns: First byte of the final response; 0 when there was none.
        response_last_ns: Last byte of the response; 0 when there was none.
        handshake_ns: TCP handshake that this exchange waited for (first exchange of a client connection), else 0.
        request_header_bytes: Request line and header section, with the empty line.
        request_body_bytes: Bytes transferred after the header section.
        response_header_bytes: Status line and header section of the final response.
        response_body_bytes: Bytes transferred after it.
        srtt_us: Smoothed round-trip time at the end, 0 when unknown.
        retransmits: Segments sent again while it lasted.
        error_type: ``error.type`` when it was cut short: reset, closed, timed_out, malformed_response; else None.
        missing: What was truncated or never seen, by name: ``request_head``, ``request_start``, ``response_head``,
            ``response``, ``body_size``, ``end``; empty when complete.
        shared: True on a flow that carried other exchanges at the same time.
        tls: True when the exchange was inside TLS.
    """

    flow_id: int
    sequence: int
    edge: bytes
    local_port: int
    remote_port: int
    method: bytes
    target: bytes
    version: str
    status: int | None
    request_first_ns: int
    request_last_ns: int
    response_first_ns: int
    response_last_ns: int
    host: bytes | None = None
    user_agent: bytes | None = None
    trace: TraceContext | None = None
    handshake_ns: int = 0
    request_header_bytes: int | None = None
    request_body_bytes: int | None = None
    response_header_bytes: int | None = None
    response_body_bytes: int | None = None
    srtt_us: int = 0
    retransmits: int = 0
    error_type: str | None = None
    missing: tuple[str, ...] = field(default=())
    shared: bool = False
    tls: bool = False
