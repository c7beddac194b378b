"""Ordinary: what the fast path asks of an exchange beyond a glance, and the exchange in full when somebody wants it.

In: the bytes of a turn where they stand in the ring. Out: yes or no, where no means that the slow path decides; or an
:class:`Exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.flows.segments import REQUEST
from otel_ebpf.flows.turn import TURN_BYTES, glance, role_of, turn_flags
from otel_ebpf.kernel import layout
from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.protocols.http1.details import KnownHeads
from otel_ebpf.protocols.http1.grammar import LAST_CHUNK
from otel_ebpf.records import ROLE_CLIENT

if TYPE_CHECKING:
    from otel_ebpf.flows.segments import Segment
    from otel_ebpf.flows.turn import Turn

MAX_TEXTS: Final = 4096
"""Content-Length lines kept: the sizes of one site's common responses.

Beyond that making one costs as much as finding it.
"""

MAX_LINES: Final = 2048
"""Request lines kept in their parts, half a kilobyte each."""
MAX_LINE_BYTES: Final = 256
"""Longer ones are not kept: they seldom come again."""

# How an ordinary final response begins (RFC 9112, 4). 101 is none: the connection changes its protocol.
STATUSES: Final = frozenset(b"HTTP/1.%d %d" % (minor, status) for minor in (0, 1) for status in range(200, 600))

STATUS_CODES: Final = {b"%d" % status: status for status in range(200, 600)}

_NOTHING: Final = ()
_RESPONSE_HEAD: Final = ("response_head", "body_size")

_MAX_CAPTURED: Final = 0xFFFF  # turn.request_captured is 16 bits wide

_NO_BODY_STATUSES: Final = (b"204", b"304")


class LengthTexts(dict[int, bytes]):
    """Body size to the line that announces it, with the line ends around it, in one spelling of the field's name."""

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self._text = b"\r\n" + name + b": %d\r\n"

    def __missing__(self, size: int) -> bytes:
        if len(self) >= MAX_TEXTS:
            self.clear()
        self[size] = text = self._text % size
        return text


def request_is_whole(ring: bytes, start: int, middle: int, head_bytes: int, body_bytes: int) -> bool:
    """Tell whether a request with *body_bytes* behind its head is complete by its own framing (RFC 9112, 6.3)."""
    head = ring[start : start + head_bytes].lower()
    if b"\r\ntransfer-encoding:" in head:
        captured = middle - start - head_bytes
        return captured == body_bytes and head.find(b"chunked\r\n") > 0 and ring.endswith(LAST_CHUNK, start, middle)
    if body_bytes:
        return b"\r\ncontent-length: %d\r\n" % body_bytes in head
    return b"\r\ncontent-length:" not in head or b"\r\ncontent-length: 0\r\n" in head


def body_is_whole(  # noqa: PLR0913, PLR0917  # numbers that the fast path has at hand
    ring: bytes, start: int, middle: int, captured: int, size: int, head_bytes: int, ending: int
) -> bool:  # fmt: skip
    """Tell whether a response of *size* bytes is complete by its own framing, and alone.

    *ending* holds the flags ``TURN_TAIL``, ``TURN_CLOSED`` and ``TURN_SNAPSHOT`` of its turn. Without any of them the
    next request ended the turn: then a chunked body whose end was not captured counts as complete, because on a
    connection that pipelines the turn would be wide.
    """
    body_bytes = size - head_bytes
    status = ring[middle + 9 : middle + 12]
    if ring.startswith(b"HEAD ", start) or status in _NO_BODY_STATUSES:
        return body_bytes == 0
    head = ring[middle : middle + head_bytes].lower()
    if b"\r\ntransfer-encoding:" in head:
        if not head.find(b"chunked\r\n") > 0 or head.startswith(b"http/1.0"):
            return False
        if captured == size:
            return ring.endswith(LAST_CHUNK, middle + head_bytes - 2, middle + captured)
        if ending & turn_flags().tail:
            return ring.endswith(LAST_CHUNK, start - 8, start)
        return not ending
    return b"\r\ncontent-length: %d\r\n" % body_bytes in head


class RequestLines(dict[bytes, tuple[bytes, bytes, str]]):
    """Request line to method, target and version."""

    def __missing__(self, line: bytes) -> tuple[bytes, bytes, str]:
        method, _, target = line[:-9].partition(b" ")
        parts = (method, target, line[-3:].decode("utf-8", "replace"))
        if len(line) <= MAX_LINE_BYTES:
            if len(self) >= MAX_LINES:
                self.clear()
            self[line] = parts
        return parts


GLANCE_FIELDS: Final = (
    "kind",
    "sequence",
    "flow_id",
    "edge",
    "request_captured",
    "response_captured",
    "request_bytes",
    "response_bytes",
    "request_first_ns",
    "response_first_ns",
    "response_last_ns",
    "flags",
)
"""What the fast path looks at of each turn, and what it leaves for the exchange in full."""
_REST_FIELDS: Final = ("local_port", "remote_port", "request_last_ns", "handshake_ns", "srtt_us", "retransmits")

Glance = tuple[int, int, int, int, bytes, int, int, int, int, int, int, int, int]
"""The length of a record and its ``GLANCE_FIELDS``."""


class Exchanges:
    """Builds exchanges of ordinary turns; what repeats among them is made once."""

    def __init__(self) -> None:
        self._unpack = glance(_REST_FIELDS).unpack_from
        self._lines = RequestLines()
        self._details = KnownHeads().read
        self._first = turn_flags().first

    def at(  # noqa: PLR0913, PLR0917  # what the caller knows already
        self, ring: bytes, at: int, glanced: Glance, line: bytes, status: bytes, request_head: int, response_head: int
    ) -> Exchange:  # fmt: skip
        """Build the exchange of the ordinary turn at *at*, of which *glanced* was read before.

        Its heads have these sizes, -1 for a response head that was cut.
        """
        (_, _, sequence, flow_id, edge, _, _, asked_bytes, answered_bytes, asked_ns, first_ns, last_ns, flags,
        ) = glanced  # fmt: skip
        local_port, remote_port, asked_last_ns, handshake_ns, srtt_us, retransmits = self._unpack(ring, at)
        method, target, version = self._lines[line]
        start = at + TURN_BYTES
        host, user_agent, trace = self._details(ring, start + len(line), start + request_head)
        if handshake_ns and not (flags & self._first and role_of(edge) == ROLE_CLIENT):
            handshake_ns = 0
        whole = response_head > 0
        return Exchange(
            flow_id, sequence, edge, local_port, remote_port, method, target, version, STATUS_CODES[status],
            asked_ns, asked_last_ns, first_ns, last_ns, host, user_agent, trace, handshake_ns,
            request_head, asked_bytes - request_head,
            response_head if whole else None, answered_bytes - response_head if whole else None,
            srtt_us, retransmits, None, _NOTHING if whole else _RESPONSE_HEAD,
        )  # fmt: skip


def glance_at(turn: Turn) -> Glance:
    """What the fast path would have read of *turn*; it stands in no ring, so its length is of no use."""
    return (
        0, turn.kind, turn.sequence, turn.flow_id, turn.edge, turn.request_captured, turn.response_captured,
        turn.request_bytes, turn.response_bytes, turn.request_first_ns, turn.response_first_ns, turn.response_last_ns,
        turn.flags,
    )  # fmt: skip


class Found(NamedTuple):
    """An ordinary exchange in the bytes of a turn: where its request line ends, and the sizes of its heads."""

    line_end: int
    request_head: int
    response_head: int


def find_ordinary(record: bytes, turn: Turn) -> Found | None:
    """Look for an ordinary exchange in a turn at the beginning of *record*, as the fast path of the intake does."""
    middle = len(record) - len(turn.response)
    line_end = record.find(b"\r\n", TURN_BYTES, middle)
    head = record.find(b"\r\n\r\n", TURN_BYTES, middle) + 4 - TURN_BYTES
    answer = turn.response.find(b"\r\n\r\n") + 4
    if head <= 0 or answer < 4 or not record.startswith(b" HTTP/1.", line_end - 9):
        return None
    if turn.response[:12] not in STATUSES:
        return None
    if not request_is_whole(record, TURN_BYTES, middle, head, turn.request_bytes - head):
        return None
    flags = turn_flags()
    ending = turn.flags & (flags.tail | flags.closed | flags.snapshot)
    captured = len(turn.response)
    if not body_is_whole(record, TURN_BYTES, middle, captured, turn.response_bytes, answer, ending):
        return None
    return Found(line_end, head, answer)


def glued(turn: Turn, segments: list[Segment]) -> bytes | None:
    """The record of a turn as if all bytes of its request had found room in it; None when it would be too large."""
    request = turn.request
    for segment in segments:
        at = segment.position - turn.request_position
        if segment.direction != REQUEST or not 0 <= at <= len(request):
            continue
        request = request[:at] + segment.data + request[at + len(segment.data) :]
    if len(request) > _MAX_CAPTURED:
        return None
    return (
        layout.TURN.pack(*turn[:6], len(request), *turn[7 : len(layout.TURN_RECORD.fields)]) + request + turn.response
    )
