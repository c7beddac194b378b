"""Queue: the requests that wait for their response, in order, and the response under way.

In: halves. Out: exchanges, and a reason for each request that cannot become one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from otel_ebpf.protocols.http1.halves import Connection, Fate, Request, Response, exchange_of
from otel_ebpf.protocols.http1.heads import UNSEEN_REQUEST

if TYPE_CHECKING:
    from otel_ebpf.protocols.exchange import Exchange
    from otel_ebpf.protocols.http1.heads import RequestHead
    from otel_ebpf.protocols.http1.reader import Opening


class Queue:
    """The halves of one connection.

    Attributes:
        exchanges: Finished ones, in the order of their requests; the caller takes them out.
        dropped: A reason for each exchange that was seen and cannot be told; the caller takes them out.
        number: Of the next request.
        retransmits: Running total of the connection, set by the caller before bytes are put.
        retransmits_before: The same before the present turn.
        srtt_us: Smoothed round-trip time, set by the caller.
        handshake_ns: Given to the first request, then 0.
        outstanding: Requests without their response.
        reading: The request whose body is under way; it may have been told or dropped already.
        response: The response to the first outstanding request, as soon as its head is known.
    """

    def __init__(self, connection: Connection, number: int) -> None:
        self.exchanges: list[Exchange] = []
        self.dropped: list[str] = []
        self.number = number
        self.retransmits = 0
        self.retransmits_before = 0
        self.srtt_us = 0
        self.handshake_ns = 0
        self.outstanding: deque[Request] = deque()
        self.reading: Request | None = None
        self.response: Response | None = None
        self._connection = connection

    def read(self, opening: Opening[RequestHead], *, framed: bool) -> Request:
        """Begin a request, which does not wait for a response before :meth:`wait`."""
        request = self._request(opening.head, opening.first_ns, opening.last_ns)
        request.handshake_ns, self.handshake_ns = self.handshake_ns, 0
        request.framed = framed
        self.reading = request
        return request

    def wait(self, request: Request, *, shared: bool) -> None:
        """Wait for the response to a request, behind all others; *shared*: while others are under way."""
        if shared:
            request.shared = self.outstanding[-1].shared = True
        self.outstanding.append(request)

    def assume(self, at_ns: int) -> None:
        """Stand in for a request that was never seen: its response came at *at_ns*."""
        request = self._request(UNSEEN_REQUEST, at_ns, at_ns)
        request.over = True
        self.outstanding.appendleft(request)

    def finished(self) -> Request | None:
        """Take the first request if it and its response are over.

        One whose end cannot be told is over with its response.
        """
        if self.response is None or not self.response.over or not self.outstanding:
            return None
        if self.outstanding[0].framed and not self.outstanding[0].over:
            return None
        return self.outstanding.popleft()

    def tell(self, request: Request, error_type: str | None = None, missing: tuple[str, ...] = ()) -> None:
        """Tell the exchange of *request* and the response under way, if there is one.

        Of bytes that could not be read at all there is nothing to tell but that they were there.
        """
        if not request.head.method and (self.response is None or not self.response.head.status):
            self.dropped.append("unreadable")
            self.response = None
            return
        fate = Fate(error_type, missing, self.srtt_us, self.retransmits - request.retransmits_before)
        self.exchanges.append(exchange_of(self._connection, request, self.response, fate))
        self.response = None

    def drop(self, reason: str) -> None:
        """Drop everything that is under way."""
        self.dropped.extend([reason] * len(self.outstanding))
        self.outstanding.clear()
        self.reading = None
        self.response = None

    def _request(self, head: RequestHead, first_ns: int, last_ns: int) -> Request:
        request = Request(self.number, head, first_ns, last_ns, self.retransmits_before)
        self.number += 1
        return request
