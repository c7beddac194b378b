"""One helper gives every HTTP/1 case five deliveries.

Whole, byte by byte, truncated, with a gap, with trailing data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_ebpf.protocols.http1.halves import Connection
from otel_ebpf.protocols.http1.pairing import Pairing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_ebpf.protocols.exchange import Exchange

CONNECTION = Connection(1, b"edge", 80, 40000)

NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT_RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """A request, its response, and what they are.

    Attributes:
        name: For the test's report.
        request: All bytes of the request.
        response: All bytes of the response, interim ones included.
        status: Final status.
        sizes: Request head and body, response head and body, in bytes.
        closes: The response ends with the connection.
        tunnel: The connection leaves HTTP with this response.
    """

    name: str
    request: bytes
    response: bytes
    status: int
    sizes: tuple[int, int, int, int]
    closes: bool = False
    tunnel: bool = False


class Wire:
    """A connection to overhear; one nanosecond passes with each call."""

    def __init__(self) -> None:
        self.pairing = Pairing(CONNECTION, 0, 0)
        self.now_ns = 0

    def request(self, data: bytes, gap: int = 0) -> Wire:
        """Bytes of the client, and so many behind them that were not captured."""
        return self._put(self.pairing.requests.stream.put, self.pairing.requests.stream.end, data, gap)

    def response(self, data: bytes, gap: int = 0) -> Wire:
        """Bytes of the server, and so many behind them that were not captured."""
        return self._put(self.pairing.responses.stream.put, self.pairing.responses.stream.end, data, gap)

    def close(self, error_type: str = "closed") -> Wire:
        """The end of the connection."""
        self.pairing.close(error_type)
        return self

    @property
    def exchanges(self) -> list[Exchange]:
        """What was told."""
        return self.pairing.queue.exchanges

    @property
    def dropped(self) -> list[str]:
        """What was not, and why."""
        return self.pairing.queue.dropped

    def _put(self, put: object, end: int, data: bytes, gap: int) -> Wire:
        self.now_ns += 1
        put(data, end + len(data) + gap, self.now_ns, self.now_ns)  # type: ignore[operator]
        self.pairing.advance()
        return self


def sizes(exchange: Exchange) -> tuple[int | None, int | None, int | None, int | None]:
    """The four sizes of an exchange."""
    return (
        exchange.request_header_bytes,
        exchange.request_body_bytes,
        exchange.response_header_bytes,
        exchange.response_body_bytes,
    )


def assert_exact(wire: Wire, case: Case) -> None:
    """The first exchange is exactly the case's."""
    exchange = wire.exchanges[0]
    assert (exchange.status, sizes(exchange)) == (case.status, case.sizes)
    assert (exchange.error_type, exchange.missing) == (None, ())


def check_whole(case: Case) -> None:
    """Both messages in one call each."""
    wire = Wire().request(case.request).response(case.response)
    assert len(wire.exchanges) == (0 if case.closes else 1)
    assert_exact(wire.close(), case)
    assert (len(wire.exchanges), wire.dropped) == (1, [])


def check_byte_by_byte(case: Case) -> None:
    """Every byte in a call of its own."""
    wire = Wire()
    for byte in case.request:
        wire.request(bytes((byte,)))
    for byte in case.response:
        wire.response(bytes((byte,)))
    assert_exact(wire.close(), case)
    assert (len(wire.exchanges), wire.dropped) == (1, [])


def check_truncated(case: Case) -> None:
    """The connection ends after any byte of the response: an error or an end, but never another status."""
    for size in range(len(case.response)):
        wire = Wire().request(case.request).response(case.response[:size]).close()
        (exchange,) = wire.exchanges
        assert exchange.status in (None, case.status)
        whole = exchange.error_type is None and exchange.missing == ()
        assert not whole or case.closes or case.tunnel or _over(case, size)


def check_gap(case: Case) -> None:
    """Any eight bytes of the response were not captured: what is told is right or unknown."""
    for at in range(len(case.response) - 8):
        wire = (
            Wire().request(case.request).response(case.response[:at], gap=8).response(case.response[at + 8 :]).close()
        )
        for exchange in wire.exchanges:
            assert exchange.status in (None, case.status, *_interim(case))
            if exchange.status == case.status and exchange.error_type is None and exchange.missing == ():
                assert sizes(exchange) == case.sizes


def check_trailing(case: Case) -> None:
    """The next exchange in the same calls: both are told, unless the first one ends the connection or HTTP."""
    wire = Wire().request(case.request + NEXT_REQUEST).response(case.response + NEXT_RESPONSE).close()
    if case.closes or case.tunnel:
        assert wire.exchanges[0].status == case.status
        return
    assert_exact(wire, case)
    assert [(e.target, e.status) for e in wire.exchanges[1:]] == [(b"/next", 204)]


DELIVERIES = (check_whole, check_byte_by_byte, check_truncated, check_gap, check_trailing)


def _over(case: Case, size: int) -> bool:
    """Whether so many bytes are the whole response: what follows it is an empty line that somebody sent too much."""
    return not case.response[size:].strip(b"\r\n")


def _interim(case: Case) -> Iterator[int]:
    """Status codes of other heads in the response."""
    return (int(line[9:12]) for line in case.response.split(b"\n") if line.startswith(b"HTTP/1."))
