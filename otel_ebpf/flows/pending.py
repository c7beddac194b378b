"""Pending: one connection with something under way, fed with turns and segments.

In: turns in order, and the segments that came before them. Out: bytes at positions for :class:`Pairing`, with the times
that belong to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_ebpf.flows.segments import REQUEST, RESPONSE
from otel_ebpf.flows.turn import turn_flags
from otel_ebpf.protocols.http1.halves import Connection
from otel_ebpf.protocols.http1.pairing import Pairing
from otel_ebpf.protocols.http1.stream import MAX_WAITING_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_ebpf.flows.segments import Segment
    from otel_ebpf.flows.turn import Turn
    from otel_ebpf.protocols.http1.stream import Stream


class Part(NamedTuple):
    """One of the two runs of a turn: captured bytes from *position*, *end* behind its last byte."""

    position: int
    end: int
    captured: bytes
    first_ns: int
    last_ns: int


class Piece(NamedTuple):
    """Bytes up to position *end*, and a gap if there are fewer; when they passed."""

    data: bytes
    end: int
    first_ns: int
    last_ns: int


def pieces(part: Part, segments: list[Segment], begin: int) -> Iterator[Piece]:
    """Cut a run, from *begin* on, into what segments carry, with the time of their call, and the rest.

    Captured bytes before the first segment are given the time of the run's first call: a run that needs segments has
    used up the room in the turn with its first calls.
    """
    at = max(begin, part.position)
    for segment in segments:
        if at < segment.position < part.end:
            yield Piece(
                part.captured[at - part.position : segment.position - part.position],
                segment.position,
                part.first_ns,
                part.first_ns,
            )
            at = segment.position
        end = min(segment.position + len(segment.data), part.end)
        if segment.position <= at < end:
            data = segment.data[at - segment.position : end - segment.position]
            yield Piece(data, end, segment.time_ns, segment.time_ns)
            at = end
    if at < part.end:
        yield Piece(part.captured[at - part.position :], part.end, part.first_ns, part.last_ns)


class PendingFlow:
    """A connection while its exchanges are not one record each.

    Attributes:
        pairing: What is known of its messages.
        sequence: Of the last turn.
        touched_ns: When its last record was taken.
        cut: Whether captured bytes found no room since this was last set to False.
    """

    __slots__ = ("_retransmits", "cut", "pairing", "sequence", "touched_ns")

    def __init__(self, pairing: Pairing, sequence: int, touched_ns: int) -> None:
        self.pairing = pairing
        self.sequence = sequence
        self.touched_ns = touched_ns
        self.cut = False
        self._retransmits = 0  # of the connection since it is pending, before the present turn

    def take(self, turn: Turn, segments: list[Segment]) -> None:
        """Go on with the next turn, or with more of the present one; *segments* are those of this turn, by position."""
        pairing, queue = self.pairing, self.pairing.queue
        if turn.sequence != self.sequence:
            self._retransmits = queue.retransmits
            self.sequence = turn.sequence
        queue.retransmits_before = self._retransmits
        queue.retransmits = self._retransmits + turn.retransmits
        queue.srtt_us = turn.srtt_us
        self._go_to(turn)
        self._put(pairing.requests.stream, request_part(turn), [s for s in segments if s.direction == REQUEST])
        pairing.advance()
        self._put(pairing.responses.stream, response_part(turn), [s for s in segments if s.direction == RESPONSE])
        if turn.flags & turn_flags().tail:
            pairing.responses.stream.put_tail(turn.tail)
        pairing.advance()

    def _go_to(self, turn: Turn) -> None:
        """Go to where the turn begins: through bytes of lost turns as long as they belong to a body, else anew."""
        requests, responses = self.pairing.requests, self.pairing.responses
        if requests.spans(turn.request_position) and responses.spans(turn.response_position):
            requests.stream.put(b"", turn.request_position, turn.request_first_ns, turn.request_first_ns)
            responses.stream.put(b"", turn.response_position, turn.response_first_ns, turn.response_first_ns)
        else:
            self.pairing.lose("turn_lost", turn.request_position, turn.response_position)

    def _put(self, stream: Stream, part: Part, segments: list[Segment]) -> None:
        for piece in pieces(part, segments, stream.end):
            if stream.waiting_bytes + len(piece.data) > MAX_WAITING_BYTES:
                self.pairing.advance()  # bodies make room: a turn may be longer than what may wait
            self.cut |= not stream.put(*piece)


def request_part(turn: Turn) -> Part:
    """The request run of a turn."""
    end = turn.request_position + turn.request_bytes
    return Part(turn.request_position, end, turn.request, turn.request_first_ns, turn.request_last_ns)


def response_part(turn: Turn) -> Part:
    """The response run of a turn."""
    end = turn.response_position + turn.response_bytes
    return Part(turn.response_position, end, turn.response, turn.response_first_ns, turn.response_last_ns)


def new_pending(turn: Turn, touched_ns: int, *, number: int, doubt: str) -> PendingFlow:
    """Begin to follow a connection with *turn*, which is then to be taken."""
    connection = Connection(turn.flow_id, turn.edge, turn.local_port, turn.remote_port)
    pairing = Pairing(connection, turn.request_position, turn.response_position, number=number, doubt=doubt)
    pairing.queue.handshake_ns = turn.client_handshake_ns
    return PendingFlow(pairing, turn.sequence, touched_ns)
