"""Pairing: which response answers which request (RFC 9112, 9.3.2: in the order of the requests).

In: bytes of both directions at their positions. Out: exchanges, and a reason for everything that did not become one.
What cannot be known stays unknown: after a loss nothing is paired until one exchange has been seen alone, and on a
connection that pipelines, where that never happens, nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_ebpf.protocols.http1 import framing
from otel_ebpf.protocols.http1.framing import Rule
from otel_ebpf.protocols.http1.halves import Response
from otel_ebpf.protocols.http1.reader import REQUESTS, RESPONSES, Opening, Reader, State
from otel_ebpf.protocols.http1.waiting import Queue
from otel_ebpf.protocols.outcome import Invalid

if TYPE_CHECKING:
    from otel_ebpf.protocols.http1.halves import Connection
    from otel_ebpf.protocols.http1.heads import RequestHead, ResponseHead

MAX_OUTSTANDING: Final = 1024
"""Requests that may wait for their response on one connection.

Load generators pipeline hundreds, nginx is sent 100 by default.
"""

RACE_NS: Final = 100_000_000
"""How much earlier than its request a response may be told of.

Two threads on one socket report in the order in which they are scheduled, which differs by a scheduling delay. A
response older than that answers nothing: it is a server's 408 on an idle connection.
"""


class Pairing:
    """The exchanges of one connection.

    Attributes:
        requests: The reader of the request direction; put bytes into its stream, then :meth:`advance`.
        responses: The same of the other direction.
        queue: What is under way, and what became of it.
        deaf: Nothing is paired any more on this connection; its requests are counted as dropped.
    """

    def __init__(
        self, connection: Connection, request_position: int, response_position: int, *, number: int = 1, doubt: str = ""
    ) -> None:
        """Begin at two positions; *number* names the next request, *doubt* says why older ones may be under way."""
        self.requests: Reader[RequestHead] = Reader(REQUESTS, request_position)
        self.responses: Reader[ResponseHead] = Reader(RESPONSES, response_position)
        self.queue = Queue(connection, number)
        self.deaf = False
        self._doubt = doubt
        self._pipelines = False
        if doubt:
            self.requests.lose()
            self.responses.lose()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing in doubt.

        The next bytes may be looked at without knowing of this connection.
        """
        return (
            not (self.queue.outstanding or self._doubt or self.deaf or self.requests.waiting or self.responses.waiting)
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
        return self.queue.response is not None

    def advance(self) -> None:
        """Go as far as the bytes that are there allow."""
        while self._request_step() or self._response_step():
            pass

    def stop_hearing(self) -> None:
        """Pair nothing more on this connection: its requests are counted as dropped."""
        self.deaf = True
        self.queue.drop(self._doubt)

    def lose(self, reason: str, request_position: int, response_position: int) -> None:
        """Bytes up to these positions were never told of: messages may begin and end in them; look for the next one."""
        self._abandon(reason)
        self.requests.jump(request_position)
        self.responses.jump(response_position)

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
                return self._unframed_request_step()
            case State.LOST:
                return reader.waiting and reader.find()
            case State.TUNNEL:
                reader.drop()
                return False

    def _request_opened(self, opening: Opening[RequestHead]) -> None:
        body = framing.request_body(opening.head)
        self.requests.follow(body)
        request = self.queue.read(opening, framed=body.rule is not Rule.UNKNOWN)
        if self.deaf:
            self.queue.dropped.append(self._doubt)
            return
        before = len(self.queue.outstanding)
        if self.responses.state is State.UNFRAMED:  # that one may well be over
            before -= 1
        self.queue.wait(request, shared=before > 0)
        if before > 0:
            self._several_under_way()

    def _several_under_way(self) -> None:
        """Pair nothing more when it is not certain which response is the first one's."""
        self._pipelines = True
        if self._doubt:
            self.stop_hearing()
        elif len(self.queue.outstanding) > MAX_OUTSTANDING:
            self._doubt = "queue_full"
            self.stop_hearing()

    def _request_not_understood(self, reason: str) -> None:
        self.queue.dropped.append(reason)
        self._doubt = reason
        self.requests.reject()

    def _unframed_request_step(self) -> bool:
        reader = self.requests
        if self.queue.response is not None and reader.resumption() >= 0:
            # It is being answered, and the next one begins: neither end can be told, so begin anew from here.
            self._abandon("unframed")
            reader.lose()
            self.responses.drop()
            self.responses.lose()
            return True
        ending = reader.end_of_unframed(resume=False)
        if ending is not None:
            self._request_over(ending.last_ns)
        return ending is not None

    def _request_over(self, last_ns: int) -> None:
        request, self.queue.reading = self.queue.reading, None
        if request is not None:
            request.over = True
            request.last_ns = last_ns
            request.body_bytes = self.requests.body_bytes
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
        if self.queue.response is not None:  # it ended before its request did; nothing can follow it yet
            return False
        if not self.queue.outstanding:
            return self._unasked()
        began_ns = self.responses.stream.first_ns()
        if self.queue.outstanding[0].first_ns - began_ns > RACE_NS:
            self.queue.assume(began_ns)
        opening = self.responses.open()
        if isinstance(opening, Opening):
            self._response_opened(opening)
            return True
        if isinstance(opening, Invalid):
            self._malformed()
            return True
        return False

    def _response_opened(self, opening: Opening[ResponseHead]) -> None:
        request = self.queue.outstanding[0]
        body = framing.response_body(opening.head, request.head.method)
        self.responses.follow(body)
        if framing.is_interim(opening.head.status):
            return
        self.queue.response = Response(*opening, framed=body.rule is not Rule.UNKNOWN)
        if body.rule is Rule.TUNNEL:
            if not request.over:
                self._request_over(self.requests.last_ns)
            self._response_over(opening.last_ns)
            self.queue.drop("tunnel")
            self.requests.switch()
            self.responses.switch()

    def _unframed_response_step(self) -> bool:
        reader = self.responses
        if self.queue.response is not None:
            self.queue.response.framed = False
        several = len(self.queue.outstanding) > 1
        if several and reader.resumption() != reader.stream.begin:
            self._lose_here("unframed")  # the bytes may hold other responses, too
            return True
        ending = reader.end_of_unframed(resume=several)
        if ending is not None:
            self._response_over(ending.last_ns)
        return ending is not None

    def _lost_response_step(self) -> bool:
        reader = self.responses
        if self.queue.outstanding:
            return reader.find()
        if reader.resumption() >= 0 and self._doubt:
            self.queue.dropped.append(self._doubt)
        reader.drop()
        return False

    def _unasked(self) -> bool:
        """A response without request: it answers an unfinished head, is dropped in doubt, or waits for its request."""
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
        queue = self.queue
        request = queue.outstanding.popleft()
        if request is queue.reading:
            queue.reading = None
            self.requests.lose()
        queue.tell(request, "malformed_response")
        self._doubt = "not_http"
        self.responses.reject()
        if queue.outstanding:  # nobody knows how many of them those bytes answer
            self._lose_here("not_http")

    def _response_over(self, last_ns: int) -> None:
        response = self.queue.response
        if response is not None:  # else it was interim
            response.over = True
            response.last_ns = max(response.last_ns, last_ns)
            response.body_bytes = self.responses.body_bytes
            self._tell_finished()

    # Exchanges

    def _tell_finished(self) -> None:
        """Tell the first exchange if both its halves are over."""
        request = self.queue.finished()
        if request is None:
            return
        self.queue.tell(request)
        if request is self.queue.reading:  # nobody knows where it ends: the next one must be found
            self.queue.reading = None
            self._doubt = self._doubt or "unframed"
            self.requests.lose()
        elif not self.queue.outstanding and self.requests.state is State.START and not self.responses.waiting:
            self._doubt = ""

    def _abandon(self, reason: str) -> None:
        """Tell the exchange that is being answered as not ended, drop the others, and doubt what comes."""
        queue = self.queue
        if queue.response is not None and queue.response.head.status:
            queue.tell(queue.outstanding.popleft(), None, ("end",))
        queue.drop(reason)
        self._doubt = reason
        self.deaf = self.deaf or self._pipelines

    def _lose_here(self, reason: str) -> None:
        self.lose(reason, self.requests.stream.end, self.responses.stream.end)

    def _finish(self, error_type: str | None) -> None:
        """Tell everything that is under way, the first with what there is of its response."""
        queue = self.queue
        self._open_cut_request()
        self._open_cut_response()
        while queue.outstanding:
            request = queue.outstanding.popleft()
            if request is queue.reading:
                request.body_bytes = self.requests.body_bytes
                request.last_ns = max(request.last_ns, self.requests.last_ns)
            queue.tell(request, *self._fate(error_type))
        queue.reading = None
        self.requests.lose()
        self.responses.lose()
        self._doubt = "given_up"

    def _fate(self, error_type: str | None) -> tuple[str | None, tuple[str, ...]]:
        """Error and what is missing, of an exchange under way when the connection, or (None) our patience, ended."""
        response = self.queue.response
        if response is None:
            return error_type, ("response",) if error_type is None else ()
        if response.over:
            return None, ()
        response.last_ns = max(response.last_ns, self.responses.last_ns)
        response.body_bytes = self.responses.body_bytes
        if error_type is None:
            return None, ("end",)
        if error_type == "closed" and self.responses.until_close:
            return None, ()
        framed = response.framed and self.responses.state is not State.UNFRAMED
        if error_type == "closed" and not framed:  # it may have been complete
            return None, ("end",)
        return error_type, ()

    def _open_cut_request(self) -> None:
        """Read what there is of a request head that never ended."""
        if self.requests.state is State.START and self.requests.waiting:
            opening = self.requests.cut()
            if isinstance(opening, Opening) and opening.head.method:
                self._request_opened(opening)
            else:
                self.queue.dropped.append("cut_start")

    def _open_cut_response(self) -> None:
        """Read what there is of a response that nobody asked for, or whose head never ended."""
        if self.deaf or self.responses.state is not State.START or not self.responses.waiting:
            return
        if not self.queue.outstanding and not self._doubt:
            self.queue.assume(self.responses.stream.first_ns())
            self.advance()
        if self.queue.outstanding and self.queue.response is None and self.responses.state is State.START:
            opening = self.responses.cut()
            if isinstance(opening, Opening):
                self._response_opened(opening)
