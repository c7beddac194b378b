"""Heads of HTTP/1 messages: start line and header section.

In: bytes that begin where a message may begin. Out: a head, or one of the outcomes. Tolerant where RFC 9112 is: bare LF
as line end (2.2), empty lines before a message (2.2), folded lines (5.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_ebpf.protocols.http1 import grammar
from otel_ebpf.protocols.outcome import Invalid, NeedMore, Skip

Buffer = bytes | bytearray

MAX_HEAD_BYTES: Final = 65536
"""Bytes of one head that are looked at: eight times what nginx and Apache accept, four times Node's limit.

Longer ones are cut.
"""

NOT_HTTP: Final = Invalid("not_http")

_MAX_METHOD_BYTES: Final = 64


class RequestHead(NamedTuple):
    """The head of a request.

    Attributes:
        method: As sent; extension methods are kept.
        target: RFC 9112, 3.2, in whichever of its four forms, as sent.
        version: ``1.0`` or ``1.1``; ``""`` when it was not seen.
        size_bytes: From the first byte of the request line to the end of the empty line.
        block: Those bytes.
        whole: False when the end of the head was not captured: *block* is a prefix.
    """

    method: bytes
    target: bytes
    version: str
    size_bytes: int
    block: bytes
    whole: bool = True


class ResponseHead(NamedTuple):
    """The head of a response, as :class:`RequestHead`; ``status`` is 0 when not even the status line was captured."""

    status: int
    version: str
    size_bytes: int
    block: bytes
    whole: bool = True


UNSEEN_REQUEST: Final = RequestHead(b"", b"", "", 0, b"", whole=False)
UNSEEN_RESPONSE: Final = ResponseHead(0, "", 0, b"", whole=False)


def empty_lines(data: Buffer) -> int:
    """Count the bytes of line ends before a message; RFC 9112, 2.2 lets a sender put empty lines there."""
    size = 0
    for byte in data:
        if byte not in b"\r\n":
            break
        size += 1
    return size


def head_end(data: Buffer, start: int = 0) -> int:
    """Return the index behind the empty line that ends a head, looking from *start*; -1 when it is not there."""
    usual = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start) if usual < 0 else data.find(b"\n\n", start, usual)
    if bare >= 0:
        return bare + 2
    return usual + 3 if usual >= 0 else -1


def begins_request(data: Buffer) -> bool:
    """Tell whether *data* may begin a request: a method, then a blank or nothing more."""
    match = grammar.METHOD.match(data[: _MAX_METHOD_BYTES + 1])
    if match is None:
        return False
    line_end = data.find(b"\n", 0, MAX_HEAD_BYTES)
    if line_end >= 0:
        return _request_line(bytes(data[:line_end])) is not None
    return match.end() == len(data) or data[match.end()] == 0x20


def begins_response(data: Buffer) -> bool:
    """Tell whether *data* may begin a response."""
    if len(data) < len(b"HTTP/1.1 200"):
        return grammar.STATUS_LINE_START.startswith(bytes(data[:7])) or data.startswith(grammar.STATUS_LINE_START)
    return grammar.STATUS_LINE.match(data) is not None


def resumes_request(data: Buffer) -> bool:
    """Tell whether *data*, found behind bytes that were not understood, certainly begins a request."""
    return grammar.REQUEST_RESUMED.match(data) is not None


def resumes_response(data: Buffer) -> bool:
    """Tell whether *data*, found behind bytes that were not understood, begins a response."""
    return grammar.STATUS_LINE.match(data) is not None


def take_request_head(data: Buffer, scanned: int = 0) -> RequestHead | NeedMore | Skip | Invalid:
    """Read a request head from the beginning of *data*; the first *scanned* bytes are known not to hold its end."""
    if skip := empty_lines(data):
        return Skip(skip)
    end = head_end(data, max(0, scanned - 3))
    if end < 0:
        return NeedMore() if begins_request(data) else NOT_HTTP
    return request_prefix(bytes(data[:end]), whole=True) or NOT_HTTP


def take_response_head(data: Buffer, scanned: int = 0) -> ResponseHead | NeedMore | Skip | Invalid:
    """Read a response head from the beginning of *data*; as :func:`take_request_head`."""
    if skip := empty_lines(data):
        return Skip(skip)
    end = head_end(data, max(0, scanned - 3))
    if end < 0:
        return NeedMore() if begins_response(data) else NOT_HTTP
    return response_prefix(bytes(data[:end]), whole=True) or NOT_HTTP


def request_prefix(block: bytes, *, whole: bool = False) -> RequestHead | None:
    """Read what can be read of a request head of which *block* is the beginning; None when it begins no request."""
    line, newline, _ = block.partition(b"\n")
    if newline:
        parts = _request_line(line)
        return RequestHead(*parts, len(block), block, whole) if parts else None
    if not begins_request(block):
        return None
    method, blank, target = line.partition(b" ")
    if not blank:  # the method may be longer than what was seen of it
        return UNSEEN_REQUEST
    return RequestHead(method, target.strip(b" \r"), "", len(block), block, whole=False)


def response_prefix(block: bytes, *, whole: bool = False) -> ResponseHead | None:
    """Read what can be read of a response head of which *block* is the beginning; None when it begins no response."""
    match = grammar.STATUS_LINE.match(block)
    if match is None:
        return UNSEEN_RESPONSE if begins_response(block) and not whole else None
    return ResponseHead(int(match[2]), match[1].decode("ascii"), len(block), block, whole)


def unfolded(block: bytes) -> bytes:
    """The head with folded lines joined (RFC 9112, 5.2)."""
    if b"\n " in block or b"\n\t" in block:
        return grammar.OBS_FOLD.sub(b" ", block)
    return block


def _request_line(line: bytes) -> tuple[bytes, bytes, str] | None:
    """Return method, target and version of a request line without its LF; None when it is none."""
    before, mark, digit = line.rstrip(b" \t\r").rpartition(grammar.VERSION_MARK)
    method, _, target = before.partition(b" ")
    target = target.strip(b" \t")
    if not mark or len(digit) != 1 or not digit.isdigit() or not target or not grammar.METHOD.fullmatch(method):
        return None
    return method, target, f"1.{digit.decode('ascii')}"
