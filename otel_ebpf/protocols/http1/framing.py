"""Framing: how long the body of a message is (RFC 9112, 6.3).

In: a head, and for a response the method it answers. Out: the rule by which the body ends; for a chunked body a decoder
that can stand bytes that were never captured. Where a sender contradicts itself the length is unknown, not wrong.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.protocols.http1 import grammar
from otel_ebpf.protocols.http1.heads import MAX_HEAD_BYTES, unfolded

if TYPE_CHECKING:
    from otel_ebpf.protocols.http1.heads import Buffer, RequestHead, ResponseHead

MAX_LENGTH: Final = (1 << 63) - 1
"""Largest Content-Length believed: no file or socket counter goes beyond a signed 64-bit number."""

MAX_CHUNK_LINE_BYTES: Final = 4096
"""Longest chunk size line with its extensions: as nginx, which reads it within one buffer page."""


class Rule(Enum):
    """What ends a body."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    UNKNOWN = "unknown"
    TUNNEL = "tunnel"


class Body(NamedTuple):
    """A rule, and for ``Rule.LENGTH`` the size in bytes."""

    rule: Rule
    length: int = 0


NO_BODY: Final = Body(Rule.LENGTH)
CHUNKED: Final = Body(Rule.CHUNKED)
UNTIL_CLOSE: Final = Body(Rule.CLOSE)
UNKNOWN: Final = Body(Rule.UNKNOWN)
TUNNEL: Final = Body(Rule.TUNNEL)


def is_interim(status: int) -> bool:
    """Tell whether a final response is still to come (RFC 9110, 15.2).

    101 is final for HTTP, the connection is another protocol's.
    """
    return 100 <= status < 200 and status != 101


def request_body(head: RequestHead) -> Body:
    """How the body of a request ends."""
    if not head.whole:
        return UNKNOWN
    codings, lengths = _length_fields(head.block)
    if codings:
        # RFC 9112, 6.3, 4: in a request whose final coding is not chunked the length cannot be determined reliably.
        return CHUNKED if _last_coding(codings) == b"chunked" and head.version != "1.0" else UNKNOWN
    if lengths:
        return _content_length(lengths)
    return NO_BODY  # RFC 9112, 6.3, 7


def response_body(head: ResponseHead, method: bytes) -> Body:
    """How the body of the response to a request with *method* ends."""
    if (100 <= head.status < 200 and head.status != 101) or method == b"HEAD" or head.status in (204, 304):
        return NO_BODY if head.whole else UNKNOWN  # RFC 9112, 6.3, 1
    if head.status == 101 or (method == b"CONNECT" and 200 <= head.status < 300):
        return TUNNEL  # RFC 9112, 6.3, 2
    if not head.whole:
        return UNKNOWN
    codings, lengths = _length_fields(head.block)
    if codings:
        return _coded_response(codings, head.version)
    if lengths:
        return _content_length(lengths)
    return UNTIL_CLOSE  # RFC 9112, 6.3, 8


def _coded_response(codings: list[bytes], version: str) -> Body:
    """RFC 9112, 6.3, 4; and 6.1: with Transfer-Encoding in an HTTP/1.0 message the framing is faulty."""
    if version == "1.0":
        return UNKNOWN
    return CHUNKED if _last_coding(codings) == b"chunked" else UNTIL_CLOSE


def _length_fields(block: bytes) -> tuple[list[bytes], list[bytes]]:
    """Values of Transfer-Encoding and Content-Length; the first overrides the second (RFC 9112, 6.3, 3)."""
    codings: list[bytes] = []
    lengths: list[bytes] = []
    for name, value in grammar.LENGTH_FIELD.findall(unfolded(block)):
        (codings if name[:1] in b"Tt" else lengths).append(value.rstrip(b" \t"))
    return codings, lengths


def _last_coding(codings: list[bytes]) -> bytes:
    return codings[-1].rpartition(b",")[2].partition(b";")[0].strip(b" \t").lower()


def _content_length(values: list[bytes]) -> Body:
    """RFC 9112, 6.3, 5: a list of equal numbers counts as that number; anything else is an unrecoverable error."""
    numbers = {number.strip(b" \t") for value in values for number in value.split(b",")}
    if not all(grammar.DIGITS.fullmatch(number) for number in numbers):
        return UNKNOWN
    sizes = {int(number) for number in numbers}
    size = sizes.pop()
    return Body(Rule.LENGTH, size) if not sizes and size <= MAX_LENGTH else UNKNOWN


class ChunkState(Enum):
    """Where in RFC 9112, 7.1 a decoder stands."""

    SIZE = "size"
    DATA = "data"
    DATA_END = "data_end"
    TRAILER = "trailer"
    DONE = "done"
    LOST = "lost"


class ChunkEvent(Enum):
    """What a decoder met."""

    SIZE = "size"
    LAST = "last"
    DATA_OVER = "data_over"
    LINE_OVER = "line_over"
    EMPTY_LINE = "empty_line"
    FAULT = "fault"


CHUNK_TRANSITIONS: Final = {
    (ChunkState.SIZE, ChunkEvent.SIZE): ChunkState.DATA,
    (ChunkState.SIZE, ChunkEvent.LAST): ChunkState.TRAILER,
    (ChunkState.SIZE, ChunkEvent.FAULT): ChunkState.LOST,
    (ChunkState.DATA, ChunkEvent.DATA_OVER): ChunkState.DATA_END,
    (ChunkState.DATA, ChunkEvent.FAULT): ChunkState.LOST,
    (ChunkState.DATA_END, ChunkEvent.EMPTY_LINE): ChunkState.SIZE,
    (ChunkState.DATA_END, ChunkEvent.FAULT): ChunkState.LOST,
    (ChunkState.TRAILER, ChunkEvent.LINE_OVER): ChunkState.TRAILER,
    (ChunkState.TRAILER, ChunkEvent.EMPTY_LINE): ChunkState.DONE,
    (ChunkState.TRAILER, ChunkEvent.FAULT): ChunkState.LOST,
}
"""The decoder. What is not here cannot happen; ``DONE`` and ``LOST`` take nothing more."""


class ChunkedBody:
    """Follows a chunked body (RFC 9112, 7.1) through captured bytes and gaps.

    Lost for good when a gap hides a size line.
    """

    __slots__ = ("_left", "_line", "_section_bytes", "state")

    def __init__(self) -> None:
        self.state = ChunkState.SIZE
        self._left = 0  # of the chunk's data
        self._line = bytearray()  # the unfinished line; only in states that read lines
        self._section_bytes = 0  # of the trailer section

    @property
    def over(self) -> bool:
        """Whether nothing more is taken: the body has ended, or its end cannot be known."""
        return self.state in (ChunkState.DONE, ChunkState.LOST)

    def take(self, data: Buffer) -> int:
        """Follow *data*; return how many bytes of it belong to the body."""
        at = 0
        while at < len(data) and not self.over:
            if self.state is ChunkState.DATA:
                at += self._take_data(len(data) - at)
            else:
                at += self._take_line(data, at)
        return at

    def skip(self, size: int) -> int:
        """Follow *size* bytes that were not captured; return how many of them certainly belong to the body."""
        if self.state is not ChunkState.DATA:
            self._on(ChunkEvent.FAULT)
            return 0
        return self._take_data(size)

    @property
    def data_left(self) -> int:
        """Bytes of the present chunk's data still to come: so many may be missing without harm."""
        return self._left if self.state is ChunkState.DATA else 0

    def _on(self, event: ChunkEvent) -> None:
        if not self.over:
            self.state = CHUNK_TRANSITIONS[self.state, event]

    def _take_data(self, available: int) -> int:
        size = min(available, self._left)
        self._left -= size
        if self._left == 0:
            self._on(ChunkEvent.DATA_OVER)
        return size

    def _take_line(self, data: Buffer, at: int) -> int:
        """Take bytes up to the end of a line; return how many."""
        newline = data.find(b"\n", at)
        end = len(data) if newline < 0 else newline + 1
        self._line += data[at:end]
        if newline >= 0:
            self._on(self._line_event(bytes(self._line.rstrip(b"\r\n"))))
            self._line.clear()
        elif len(self._line) > MAX_CHUNK_LINE_BYTES:
            self._on(ChunkEvent.FAULT)
        return end - at

    def _line_event(self, line: bytes) -> ChunkEvent:
        match self.state:
            case ChunkState.SIZE:
                return self._size_event(line)
            case ChunkState.TRAILER if line:
                self._section_bytes += len(line)
                return ChunkEvent.LINE_OVER if self._section_bytes <= MAX_HEAD_BYTES else ChunkEvent.FAULT
            case _:
                return ChunkEvent.FAULT if line else ChunkEvent.EMPTY_LINE

    def _size_event(self, line: bytes) -> ChunkEvent:
        match = grammar.CHUNK_SIZE.match(line)
        if match is None or len(line) > MAX_CHUNK_LINE_BYTES:
            return ChunkEvent.FAULT
        self._left = int(match[1], 16)
        return ChunkEvent.SIZE if self._left else ChunkEvent.LAST
