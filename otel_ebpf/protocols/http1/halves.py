"""Halves: a request and a response while they are under way, and the exchange that they make.

In: what the readers found. Out: :class:`Exchange`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.protocols.http1.details import details

if TYPE_CHECKING:
    from otel_ebpf.protocols.http1.heads import RequestHead, ResponseHead


class Connection(NamedTuple):
    """What all exchanges of a connection share; as in :class:`Exchange`."""

    flow_id: int
    edge: bytes
    local_port: int
    remote_port: int


class Fate(NamedTuple):
    """How an exchange ended, and what it cost the connection; as in :class:`Exchange`."""

    error_type: str | None
    missing: tuple[str, ...]
    srtt_us: int
    retransmits: int


@dataclass(slots=True)
class Request:
    """A request; sizes in bytes, times in ns.

    Attributes:
        number: Names it on its flow.
        head: Its head, as far as it was seen.
        first_ns: Its first byte.
        last_ns: Its last byte so far.
        retransmits_before: The connection's total before it.
        body_bytes: None until it is over.
        over: Whether its last byte was seen.
        framed: Whether its head says where it ends.
        shared: Whether others were under way at the same time.
        handshake_ns: The handshake it waited for.
    """

    number: int
    head: RequestHead
    first_ns: int
    last_ns: int
    retransmits_before: int
    body_bytes: int | None = None
    over: bool = False
    framed: bool = True
    shared: bool = False
    handshake_ns: int = 0


@dataclass(slots=True)
class Response:
    """A final response; as :class:`Request`."""

    head: ResponseHead
    first_ns: int
    last_ns: int
    body_bytes: int | None = None
    over: bool = False
    framed: bool = True


def exchange_of(
    connection: Connection,
    request: Request,
    response: Response | None,
    fate: Fate,
) -> Exchange:
    """Make the exchange of two halves; what *fate* misses is added to what the halves show by themselves."""
    host, user_agent, trace = details(request.head.block)
    exchange = Exchange(
        flow_id=connection.flow_id,
        sequence=request.number,
        edge=connection.edge,
        local_port=connection.local_port,
        remote_port=connection.remote_port,
        method=request.head.method,
        target=request.head.target,
        version=request.head.version,
        status=None,
        request_first_ns=request.first_ns,
        request_last_ns=max(request.first_ns, request.last_ns),
        response_first_ns=0,
        response_last_ns=0,
        host=host,
        user_agent=user_agent,
        trace=trace,
        handshake_ns=request.handshake_ns,
        request_header_bytes=request.head.size_bytes if request.head.whole else None,
        request_body_bytes=request.body_bytes if request.head.whole else None,
        srtt_us=fate.srtt_us,
        retransmits=fate.retransmits,
        error_type=fate.error_type,
        missing=(*_missing(request, response), *fate.missing),
        shared=request.shared,
    )
    if response is not None:
        _answer(exchange, response)
    return exchange


def _answer(exchange: Exchange, response: Response) -> None:
    exchange.status = response.head.status or None
    # A thread that receives may be told of before the one that sent: time does not run backwards for that.
    exchange.response_first_ns = max(response.first_ns, exchange.request_first_ns)
    exchange.response_last_ns = max(response.last_ns, exchange.response_first_ns)
    if response.head.whole:
        exchange.response_header_bytes = response.head.size_bytes
        exchange.response_body_bytes = response.body_bytes


def _missing(request: Request, response: Response | None) -> list[str]:
    missing = []
    if not request.head.whole:
        missing.append("request_head")
    if response is not None and not response.head.whole:
        missing.append("response_head")
    if not request.head.whole or (response is not None and not response.head.whole):
        missing.append("body_size")
    return missing
