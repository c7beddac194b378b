"""Pairing: which response answers which request (RFC 9112, 9.3.2: in the order of the requests).

In: bytes of both directions at their positions. Out: exchanges, and a reason for everything that did not become one.
What cannot be known stays unknown: after a loss nothing is paired until one exchange has been seen alone, and on a
connection that pipelines, where that never happens, nothing at all.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from otel_ebpf.protocols.http1 import framing
from otel_ebpf.protocols.http1.framing import Rule
from otel_ebpf.protocols.http1.halves import Connection, Fate, Request, Response, exchange_of
from otel_ebpf.protocols.http1.heads import UNSEEN_REQUEST, RequestHead, ResponseHead
from otel_ebpf.protocols.http1.reader import REQUESTS, RESPONSES, Opening, Reader, State
from otel_ebpf.protocols.outcome import Invalid

if TYPE_CHECKING:
    from otel_ebpf.protocols.exchange import Exchange

MAX_OUTSTANDING: Final = 1024
"""Requests that may wait for their response on one connection.

Load generators pipeline hundreds, nginx is sent 100 by default.
"""

RACE_NS: Final = 100_000_000
"""How much earlier than its request a response may be told of. Two threads on one socket report in the order in which
they are scheduled, which differs by a scheduling delay; a response that old answers nothing (a server's 408 on an idle
connection)."""


class Pairing:
    """The exchanges of one connection. Take :attr:`exchanges` and :attr:`dropped` after each call and empty them.

    Attributes:
        exchanges: Finished ones, in the order of their requests.
        dropped: A reason for each exchange that was seen and cannot be told.
        retransmits: Running total of the connection, set by the caller before bytes are put.
        srtt_us: Smoothed round-trip time, set by the caller.
        handshake_ns: Given to the first exchange, then 0.
    """

    def __init__(
        self, connection: Connection, request_position: int, response_position: int, *, number: int = 1, doubt: str = ""
    ) -> None:
        """Begin at two positions; *number* names the next request, *doubt* says why older ones may be under way."""
        self.requests: Reader[RequestHead] = Reader(REQUESTS, request_position)
        self.responses: Reader[ResponseHead] = Reader(RESPONSES, response_position)
        self.exchanges: list[Exchange] = []
        self.dropped: list[str] = []
        self.retransmits = 0
        self.retransmits_before = 0
        self.srtt_us = 0
        self.handshake_ns = 0
        self.number = number
        self.deaf = False
        self._connection = connection
        self._doubt = doubt
        self._pipelines = False
        self._outstanding: deque[Request] = deque()
        self._reading: Request | None = None
        self._response: Response | None = None
        if doubt:
            self.requests.lose()
            self.responses.lose()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing in doubt.

        The next bytes may be looked at without knowing of this connection.
        """
        return (
            not (self._outstanding or self._doubt or self.deaf or self.requests.waiting or self.responses.waiting)
            and self.requests.state is State.START
            and self.responses.state is State.START
        )

    @property
    def tunnel(self) -> bool:
        """Whether the connection has left HTTP."""
        return self.responses.state is State.TUNNEL

    @property
    def answering(self) -> bool:
        """Whether a response is under way."""
        return self._response is not None

    @property
    def outstanding(self) -> int:
        """Requests without their response."""
        return len(self._outstanding)

    def advance(self) -> None:
        """Go as far as the bytes that are there allow."""
        while self._request_step() or self._response_step():
            pass

    def stop_hearing(self) -> None:
        """Pair nothing more on this connection: its requests are counted as dropped."""
        self.deaf = True
        self._drop_outstanding(self._doubt)

    def lose(self, reason: str, request_position: int, response_position: int) -> None:
        """Messages may begin and end in bytes that were never told of.

        Go to these positions and look for the next exchange.
        """
        if self._response is not None and self._response.head.status:
            self._tell(self._outstanding[0], self._response, None, ("end",))
            self._outstanding.popleft()
        self._drop_outstanding(reason)
        self._doubt = reason
        self.deaf = self.deaf or self._pipelines
        self.requests.jump(request_position)
        self.responses.jump(response_position)

    def drop_all(self, reason: str) -> None:
        """Forget everything that is under way."""
        self._drop_outstanding(reason)

    def close(self, error_type: str) -> None:
        """The connection is gone (*error_type*: closed, reset, timed_out): tell what is left."""
        self._finish(error_type)

    def give_up(self) -> None:
        """Nobody waits any longer: tell what is left as not ended."""
        self._finish(None)

    def open_tunnel(self) -> None:
        """The connection has left HTTP, whether its last head was wholly seen or not: tell what is left."""
        if not self.tunnel:
            self._finish(None)
        self.requests.switch()
        self.responses.switch()

    # Requests

    def _request_step(self) -> bool:
        """Take one step in the request direction; False when there is none to take."""
        reader = self.requests
        match reader.state:
            case State.START:
                opening = reader.open()
                if isinstance(opening, Opening):
                    self._request_opened(opening)
                elif isinstance(opening, Invalid):
                    self._request_not_understood(opening.reason)
                else:
                    return False
                return True
            case State.BODY:
                ending = reader.end()
                if ending is not None:
                    self._request_over(ending.last_ns)
                return ending is not None or reader.state is not State.BODY
            case State.UNFRAMED:
                ending = reader.end_of_unframed(resume=False)
                if ending is not None:
                    self._request_over(ending.last_ns)
                return ending is not None
            case State.LOST:
                return reader.waiting and reader.find()
            case State.TUNNEL:
                reader.drop()
                return False

    def _request_opened(self, opening: Opening[RequestHead]) -> None:
        body = framing.request_body(opening.head)
        request = Request(self.number, opening.head, opening.first_ns, opening.last_ns, self.retransmits_before)
        request.handshake_ns, self.handshake_ns = self.handshake_ns, 0
        request.framed = body.rule is not Rule.UNKNOWN
        self.number += 1
        self.requests.follow(body)
        self._reading = request
        if self.deaf:
            self.dropped.append(self._doubt)
            return
        self._outstanding.append(request)
        self._look_at_queue()

    def _look_at_queue(self) -> None:
        """With several requests under way.

        Note it, and pair nothing when it is not certain which response is the first one's.
        """
        if len(self._outstanding) < 2:
            return
        self._pipelines = True
        for request in (self._outstanding[-2], self._outstanding[-1]):
            request.shared = True
        if self._doubt:
            self.stop_hearing()
        elif len(self._outstanding) > MAX_OUTSTANDING:
            self._lose_here("queue_full")

    def _request_not_understood(self, reason: str) -> None:
        self.dropped.append(reason)
        self._doubt = reason
        self.requests.reject()

    def _request_over(self, last_ns: int) -> None:
        if self._reading is None:
            return
        self._reading.over = True
        self._reading.last_ns = last_ns
        self._reading.body_bytes = self.requests.body_bytes
        self._reading = None
        self._tell_finished()

    # Responses

    def _response_step(self) -> bool:
        """Take one step in the response direction; False when there is none to take."""
        reader = self.responses
        if not reader.waiting and reader.state is not State.BODY:
            return False
        if self.deaf or reader.state is State.TUNNEL:
            reader.drop()
            return False
        match reader.state:
            case State.START:
                return self._response_opens()
            case State.BODY:
                ending = reader.end()
                if ending is not None:
                    self._response_over(ending.last_ns)
                return ending is not None or reader.state is not State.BODY
            case State.UNFRAMED:
                return self._unframed_response_step()
            case _:
                return self._lost_response_step()

    def _response_opens(self) -> bool:
        if self._response is not None:  # it ended before its request did; nothing can follow it yet
            return False
        if not self._outstanding:
            return self._unasked()
        if self._outstanding[0].first_ns - self.responses.stream.first_ns() > RACE_NS:
            self._assume_request()
        opening = self.responses.open()
        if isinstance(opening, Opening):
            self._response_opened(opening)
            return True
        if isinstance(opening, Invalid):
            self._malformed()
            return True
        return False

    def _response_opened(self, opening: Opening[ResponseHead]) -> None:
        body = framing.response_body(opening.head, self._outstanding[0].head.method)
        self.responses.follow(body)
        if framing.is_interim(opening.head.status):
            return
        self._response = Response(opening.head, opening.first_ns, opening.last_ns)
        self._response.framed = body.rule is not Rule.UNKNOWN
        if body.rule is Rule.TUNNEL:
            self._request_over_at_switch()
            self._response_over(opening.last_ns)
            self._drop_outstanding("tunnel")
            self.requests.switch()
            self.responses.switch()

    def _request_over_at_switch(self) -> None:
        request = self._outstanding[0]
        if not request.over:
            request.over = True
            request.body_bytes = self.requests.body_bytes
            self._reading = None

    def _unframed_response_step(self) -> bool:
        reader = self.responses
        if self._response is not None:
            self._response.framed = False
        if len(self._outstanding) > 1 and reader.resumption() != reader.stream.begin:
            self._lose_here("unframed")  # the bytes may hold other responses, too
            return True
        ending = reader.end_of_unframed(resume=len(self._outstanding) > 1)
        if ending is not None:
            self._response_over(ending.last_ns)
        return ending is not None

    def _lost_response_step(self) -> bool:
        reader = self.responses
        if self._outstanding:
            return reader.find()
        if reader.resumption() >= 0 and self._doubt:
            self.dropped.append(self._doubt)
        reader.drop()
        return False

    def _unasked(self) -> bool:
        """A response without a request.

        Answers a head that is not complete yet, or is dropped in doubt, or waits for its request.
        """
        if self.requests.state is State.START and self.requests.waiting:
            opening = self.requests.cut()
            if isinstance(opening, Opening):
                self._request_opened(opening)
                return True
        if not self._doubt:
            return False
        self.responses.lose()
        return True

    def _malformed(self) -> None:
        """The answer is not HTTP."""
        request = self._outstanding.popleft()
        if request is self._reading:
            self._reading = None
            self.requests.lose()
        self._tell(request, None, "malformed_response", ())
        self._doubt = "not_http"
        self.responses.reject()
        if self._outstanding:  # nobody knows how many of them those bytes answer
            self._lose_here("not_http")

    def _response_over(self, last_ns: int) -> None:
        response = self._response
        if response is None:  # interim
            return
        response.over = True
        response.last_ns = max(response.last_ns, last_ns)
        response.body_bytes = self.responses.body_bytes
        self._tell_finished()

    # Exchanges

    def _tell_finished(self) -> None:
        """Tell the first exchange if both its halves are over."""
        response = self._response
        if response is None or not response.over or not self._outstanding:
            return
        request = self._outstanding[0]
        if not request.over and request.framed:
            return
        self._outstanding.popleft()
        self._tell(request, response, None, ())
        self._response = None
        if request is self._reading:  # nobody knows where it ends: the next one must be found
            self._reading = None
            self._doubt = self._doubt or "unframed"
            self.requests.lose()
        elif not self._outstanding and self.requests.state is State.START and not self.responses.waiting:
            self._doubt = ""

    def _tell(
        self, request: Request, response: Response | None, error_type: str | None, missing: tuple[str, ...]
    ) -> None:
        fate = Fate(error_type, missing, self.srtt_us, self.retransmits - request.retransmits_before)
        self.exchanges.append(exchange_of(self._connection, request, response, fate))

    def _drop_outstanding(self, reason: str) -> None:
        self.dropped.extend([reason] * len(self._outstanding))
        self._outstanding.clear()
        self._reading = None
        self._response = None

    def _lose_here(self, reason: str) -> None:
        self.lose(reason, self.requests.stream.end, self.responses.stream.end)

    def _assume_request(self) -> None:
        """Stand in for a request that was never seen: its response is there."""
        at_ns = self.responses.stream.first_ns()
        request = Request(self.number, UNSEEN_REQUEST, at_ns, at_ns, self.retransmits_before)
        request.over = True
        self.number += 1
        self._outstanding.appendleft(request)

    def _finish(self, error_type: str | None) -> None:
        """Tell everything that is under way, the first with what there is of its response."""
        self._open_cut_heads()
        while self._outstanding:
            request = self._outstanding.popleft()
            response, self._response = self._response, None
            self._settle(request)
            if response is not None and not response.over:
                response.last_ns = max(response.last_ns, self.responses.last_ns)
                response.body_bytes = self.responses.body_bytes
                self._tell(request, response, *self._ending_of(response, error_type))
            elif response is not None:
                self._tell(request, response, None, ())
            else:
                self._tell(request, None, error_type, ("response",) if error_type is None else ())
        self._reading = None
        self.requests.lose()
        self.responses.lose()
        self._doubt = "given_up"

    def _settle(self, request: Request) -> None:
        if request is self._reading:
            request.body_bytes = self.requests.body_bytes
            request.last_ns = max(request.last_ns, self.requests.last_ns)

    def _ending_of(self, response: Response, error_type: str | None) -> tuple[str | None, tuple[str, ...]]:
        """Error and what is missing, of a response that the end of the connection (None.

        Of our patience) found under way.
        """
        if error_type is None:
            return None, ("end",)
        if error_type != "closed":
            return error_type, ()
        if self.responses.until_close:
            return None, ()
        if not response.framed:  # it may have been complete
            return None, ("end",)
        return error_type, ()

    def _open_cut_heads(self) -> None:
        """Read what there is of heads that never ended."""
        if not self._outstanding and self.requests.state is State.START and self.requests.waiting:
            opening = self.requests.cut()
            if isinstance(opening, Opening) and opening.head.method:
                self._request_opened(opening)
            else:
                self.dropped.append("cut_start")
        if self.deaf or self.responses.state is not State.START or not self.responses.waiting:
            return
        if not self._outstanding and not self._doubt:
            self._assume_request()
            self.advance()
        if self._outstanding and self._response is None and self.responses.state is State.START:
            opening_of_response = self.responses.cut()
            if isinstance(opening_of_response, Opening):
                self._response_opened(opening_of_response)
