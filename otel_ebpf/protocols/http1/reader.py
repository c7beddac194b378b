"""Reader: the messages of one direction, one after the other.

In: a :class:`Stream`, and for each head the rule by which its body ends. Out: where messages open and end. It does not
know about the other direction: what depends on it is decided by :mod:`pairing`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from otel_ebpf.protocols.http1 import framing, grammar, heads
from otel_ebpf.protocols.http1.framing import Body, ChunkedBody, ChunkState, Rule
from otel_ebpf.protocols.http1.heads import MAX_HEAD_BYTES, RequestHead, ResponseHead
from otel_ebpf.protocols.http1.stream import Stream
from otel_ebpf.protocols.outcome import Invalid, NeedMore, Skip

if TYPE_CHECKING:
    from collections.abc import Callable

Head = TypeVar("Head", RequestHead, ResponseHead)


class State(Enum):
    """What the next byte of a direction belongs to."""

    START = "start"  # a message begins, or its head is under way
    BODY = "body"  # a body whose end is known by its framing
    UNFRAMED = "unframed"  # a message whose end cannot be told from its own bytes
    LOST = "lost"  # nobody knows: until something begins like a message
    TUNNEL = "tunnel"  # another protocol, for good


class Event(Enum):
    """What moves a reader from one state to another."""

    FRAMED = "framed"
    NOT_FRAMED = "not_framed"
    SWITCHED = "switched"
    OVER = "over"
    LOSS = "loss"
    FOUND = "found"


TRANSITIONS: Final = {
    (State.START, Event.FRAMED): State.BODY,
    (State.START, Event.NOT_FRAMED): State.UNFRAMED,
    (State.START, Event.SWITCHED): State.TUNNEL,
    (State.START, Event.LOSS): State.LOST,
    (State.BODY, Event.OVER): State.START,
    (State.BODY, Event.NOT_FRAMED): State.UNFRAMED,
    (State.BODY, Event.SWITCHED): State.TUNNEL,
    (State.BODY, Event.LOSS): State.LOST,
    (State.UNFRAMED, Event.OVER): State.START,
    (State.UNFRAMED, Event.SWITCHED): State.TUNNEL,
    (State.UNFRAMED, Event.LOSS): State.LOST,
    (State.LOST, Event.FOUND): State.START,
    (State.LOST, Event.LOSS): State.LOST,
    (State.LOST, Event.SWITCHED): State.TUNNEL,
    (State.TUNNEL, Event.LOSS): State.TUNNEL,
    (State.TUNNEL, Event.SWITCHED): State.TUNNEL,
}
"""The reader. What is not here cannot happen."""

_RULE_EVENTS: Final = {
    Rule.LENGTH: Event.FRAMED,
    Rule.CHUNKED: Event.FRAMED,
    Rule.CLOSE: Event.FRAMED,
    Rule.UNKNOWN: Event.NOT_FRAMED,
    Rule.TUNNEL: Event.SWITCHED,
}


class Side(NamedTuple, Generic[Head]):
    """How the heads of one direction are read."""

    take: Callable[[heads.Buffer, int], Head | NeedMore | Skip | Invalid]
    prefix: Callable[[bytes], Head | None]
    resumes: Callable[[heads.Buffer], bool]
    unseen: Head


REQUESTS: Final = Side(heads.take_request_head, heads.request_prefix, heads.resumes_request, heads.UNSEEN_REQUEST)
RESPONSES: Final = Side(heads.take_response_head, heads.response_prefix, heads.resumes_response, heads.UNSEEN_RESPONSE)


class Opening(NamedTuple, Generic[Head]):
    """A head, and when its first and its last byte passed."""

    head: Head
    first_ns: int
    last_ns: int


class Ending(NamedTuple):
    """The end of a message: bytes behind its head, and when the last one passed."""

    body_bytes: int
    last_ns: int


class Reader(Generic[Head]):
    """Follows the messages of one direction.

    After :meth:`open` gave a head, :meth:`follow` must say how its body ends.
    """

    __slots__ = ("_body", "_body_begin", "_chunks", "_scanned", "_side", "last_ns", "state", "stream")

    def __init__(self, side: Side[Head], position: int) -> None:
        self.stream = Stream(position)
        self.state = State.START
        self.last_ns = 0  # of the last byte consumed
        self._side: Side[Head] = side
        self._scanned = 0  # bytes at the front that hold no end of a head
        self._body: Body = framing.NO_BODY
        self._body_begin = position
        self._chunks: ChunkedBody | None = None

    @property
    def waiting(self) -> bool:
        """Whether bytes are known of that were not consumed."""
        return self.stream.begin < self.stream.end

    @property
    def body_bytes(self) -> int:
        """Bytes consumed behind the head of the present message."""
        return self.stream.begin - self._body_begin

    @property
    def until_close(self) -> bool:
        """Whether the present body ends with the connection."""
        return self.state is State.BODY and self._body.rule is Rule.CLOSE

    def open(self) -> Opening[Head] | NeedMore | Invalid:
        """In ``START``: the next head, whole or cut; NeedMore while its end may still come."""
        while self.waiting:
            data = self.stream.front()
            window = data if len(data) <= MAX_HEAD_BYTES else data[:MAX_HEAD_BYTES]
            outcome = self._side.take(window, self._scanned) if window else NeedMore()
            match outcome:
                case Skip():
                    self._consume(outcome.size_bytes)
                case Invalid():
                    return outcome
                case NeedMore():
                    if self.stream.begin + len(data) == self.stream.end and len(data) <= MAX_HEAD_BYTES:
                        self._scanned = len(data)
                        return outcome
                    return self.cut()
                case head:
                    return self._opening(head)
        return NeedMore()

    def cut(self) -> Opening[Head] | Invalid:
        """In ``START``: what is there of a head whose end will not be seen."""
        block = bytes(self.stream.front()[:MAX_HEAD_BYTES])
        head = self._side.prefix(block) if block else self._side.unseen
        if head is None:
            return heads.NOT_HTTP
        return self._opening(head._replace(whole=False, size_bytes=len(block)))

    def follow(self, body: Body) -> None:
        """Say how the message that :meth:`open` gave ends."""
        self._body = body
        self._body_begin = self.stream.begin
        self._chunks = ChunkedBody() if body.rule is Rule.CHUNKED else None
        self._on(_RULE_EVENTS[body.rule])

    def end(self) -> Ending | None:
        """In ``BODY``: consume the body as far as it has come; its end when that is reached."""
        match self._body.rule:
            case Rule.LENGTH:
                self._consume(min(self._body_begin + self._body.length, self.stream.end) - self.stream.begin)
                return self._ending() if self.body_bytes == self._body.length else None
            case Rule.CHUNKED if self._chunks is not None:
                return self._end_of_chunks(self._chunks)
            case _:
                self._consume(self.stream.end - self.stream.begin)
                return None

    def end_of_unframed(self, *, resume: bool) -> Ending | None:
        """In ``UNFRAMED``: its end, where chunks seem to be over or, if *resume*, where the next message begins."""
        ends = [self.stream.call_ending_with(grammar.LAST_CHUNK)] if self._chunks is not None else []
        ends += [self.resumption()] if resume else []
        end = min((position for position in ends if position >= 0), default=-1)
        self._consume((self.stream.end if end < 0 else end) - self.stream.begin)
        return self._ending() if end >= 0 else None

    def resumption(self) -> int:
        """Position of the first call that begins like a message; -1 when there is none."""
        for position in self.stream.calls():
            if self._side.resumes(self.stream.captured_at(position)):
                return position
        return -1

    def find(self) -> bool:
        """In ``LOST``: go to where a message begins, else to the end of what is there."""
        position = self.resumption()
        self._consume((self.stream.end if position < 0 else position) - self.stream.begin)
        if position < 0:
            return False
        self._on(Event.FOUND)
        return True

    def drop(self) -> None:
        """Consume everything."""
        self._consume(self.stream.end - self.stream.begin)

    def lose(self) -> None:
        """Give up the present message: the next one must be found."""
        self._scanned = 0
        self._on(Event.LOSS)

    def reject(self) -> None:
        """In ``START``: what stands here is no message, whatever it looked like."""
        self._consume(1)
        self.lose()

    def jump(self, position: int) -> None:
        """Bytes up to *position* were never told of: go there, and look for a message."""
        self.stream = Stream(position)
        self.lose()

    def switch(self) -> None:
        """From here on the connection belongs to another protocol."""
        self._on(Event.SWITCHED)
        self.drop()

    def spans(self, position: int) -> bool:
        """Tell whether all bytes up to *position* are known of, or belong to the present message whatever they are."""
        if position <= self.stream.end:
            return True
        if self.state in (State.LOST, State.TUNNEL) or self.until_close:
            return True
        if self.state is not State.BODY:
            return False
        if self._chunks is not None:
            return not self.waiting and position - self.stream.begin <= self._chunks.data_left
        return position <= self._body_begin + self._body.length

    def _on(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def _opening(self, head: Head) -> Opening[Head]:
        first_ns = self.stream.first_ns()
        self._consume(head.size_bytes)
        return Opening(head, first_ns, max(first_ns, self.last_ns))

    def _ending(self) -> Ending:
        self._on(Event.OVER)
        return Ending(self.body_bytes, self.last_ns)

    def _end_of_chunks(self, chunks: ChunkedBody) -> Ending | None:
        while self.waiting and not chunks.over:
            data = self.stream.front()
            self._consume(chunks.take(data) if data else chunks.skip(self.stream.gap()))
        if chunks.state is ChunkState.LOST:
            self._on(Event.NOT_FRAMED)
        return self._ending() if chunks.state is ChunkState.DONE else None

    def _consume(self, size: int) -> None:
        if size > 0:
            self._scanned = 0
            self.last_ns = self.stream.last_ns(self.stream.begin + size)
            self.stream.consume(size)
