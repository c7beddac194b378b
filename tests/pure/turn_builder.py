"""A model of the kernel's turn rules: plays the calls of a connection, gives the bytes of the ring.

It follows ``bpf/include/exchange.h`` and ``segment.h`` rule by rule, so that any way to cut a conversation into calls
can be tested without a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ebpf.kernel import layout

C = layout.constants()
REQUEST = C["DIRECTION_REQUEST"]
RESPONSE = C["DIRECTION_RESPONSE"]
INLINE = {REQUEST: C["REQUEST_INLINE_BYTES"], RESPONSE: C["RESPONSE_INLINE_BYTES"]}
GAP = {REQUEST: C["TURN_REQUEST_GAP"], RESPONSE: C["TURN_RESPONSE_GAP"]}
SEARCHED_TURNS = 8
SEGMENT_STEPS = 24
METHODS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"OPTI", b"CONN", b"TRAC")


def ring_record(payload: bytes, header_flags: int = 0) -> bytes:
    """One record of the ring: header, payload, padding."""
    header = (len(payload) | header_flags).to_bytes(4, "little") + bytes(4)
    return header + payload + bytes(-len(payload) % 8)


def edge(role: int = C["ROLE_SERVER"], *, comm: bytes = b"nginx", server_port: int = 80, tgid: int = 1) -> bytes:
    """The raw bytes of an edge on 10.0.0.1 and 10.0.0.2."""
    return layout.EDGE_KEY.pack(comm, 7, tgid, 99, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), server_port, 4, role, 0)


@dataclass
class Run:
    """One part of a turn."""

    position: int = 0
    size: int = 0
    captured: bytes = b""
    first_ns: int = 0
    last_ns: int = 0


@dataclass
class Conversation:
    """One connection. Each call adds to :attr:`ring`; times are given, or pass by a microsecond per call.

    Attributes:
        flow_id: Its id.
        edge: Its edge.
        joined: It was open before the agent.
        handshake_ns: Of its first turn.
        search: Whether the kernel notices pipelining (False: it never sends segments).
        ring: What the kernel has sent.
        lost: Sequences of turns that the full ring refuses.
        now_ns: The clock.
    """

    flow_id: int = 1
    edge: bytes = field(default_factory=edge)
    joined: bool = False
    handshake_ns: int = 0
    search: bool = True
    ring: list[bytes] = field(default_factory=list)
    lost: frozenset[int] = frozenset()
    now_ns: int = 1_000_000

    def __post_init__(self) -> None:
        self.sequence = 0
        self.positions = {REQUEST: 0, RESPONSE: 0}
        self.runs = {REQUEST: Run(), RESPONSE: Run()}
        self.phase: int | None = None
        self.flags = 0
        self.tail = bytes(8)
        self.wide_flow = False
        self.wide_head = False
        self.swept = 0
        self.tunnel = False
        self.retransmits = 0

    def request(self, data: bytes, at_ns: int | None = None, *, readable: bool = True) -> Conversation:
        """A call that moves request bytes."""
        return self._call(REQUEST, data, at_ns, readable=readable)

    def response(self, data: bytes, at_ns: int | None = None, *, readable: bool = True) -> Conversation:
        """A call that moves response bytes."""
        return self._call(RESPONSE, data, at_ns, readable=readable)

    def sweep(self) -> Conversation:
        """The connection has been quiet for a while."""
        size = self.runs[REQUEST].size + self.runs[RESPONSE].size
        if self.phase == RESPONSE and self.swept != size:
            self._output(C["TURN_SNAPSHOT"])
            self.swept = size
        return self

    def close(self, flags: int = 0) -> Conversation:
        """The socket is destroyed."""
        if self.phase is not None and not self.tunnel:
            self._emit(C["TURN_CLOSED"] | flags)
        return self

    def sent(self) -> bytes:
        """All that the ring got so far."""
        return b"".join(self.ring)

    def _call(self, part: int, data: bytes, at_ns: int | None, *, readable: bool) -> Conversation:
        self.now_ns = self.now_ns + 1000 if at_ns is None else at_ns
        if self.tunnel or not data:
            return self
        if self._begins_turn(part, data if readable else b""):
            self._end()
            self._begin()
        self.phase = part
        self._bytes(part, data, readable=readable)
        response = self.runs[RESPONSE]
        if part == RESPONSE and response.size == len(data) and self._opens_tunnel(response.captured):
            self._emit(C["TURN_OPAQUE"])
            self.tunnel = True
        return self

    def _begins_turn(self, part: int, data: bytes) -> bool:
        if self.phase is None or (part == REQUEST and self.phase == RESPONSE):
            return True
        if part == RESPONSE:
            return self.phase == RESPONSE and data.startswith(b"HTTP/")
        if data.startswith(METHODS):
            self.wide_flow = self.search
            return True
        return False

    def _begin(self) -> None:
        self.sequence += 1
        self.swept = 0
        self.wide_head = False
        self.flags = C["TURN_JOINED"] if self.joined else 0
        if self.sequence == 1:
            self.flags |= C["TURN_FIRST"]
        if self.wide_flow:
            self.flags |= C["TURN_WIDE"]
        self.retransmits = 0
        for part in (REQUEST, RESPONSE):
            self.runs[part] = Run(position=self.positions[part])

    def _end(self) -> None:
        if self.phase is not None and self.swept != self.runs[REQUEST].size + self.runs[RESPONSE].size:
            self._emit(0)

    def _bytes(self, part: int, data: bytes, *, readable: bool) -> None:
        run = self.runs[part]
        whole_so_far = len(run.captured) == run.size
        copied = data[: INLINE[part] - len(run.captured)] if readable and whole_so_far else b""
        first = run.size == 0
        run.first_ns = self.now_ns if first else run.first_ns
        run.last_ns = self.now_ns
        position = self.positions[part]
        self.positions[part] += len(data)
        run.size += len(data)
        run.captured += copied
        if (
            part == REQUEST
            and copied
            and (len(run.captured) == INLINE[REQUEST] or (first and self.sequence <= SEARCHED_TURNS))
        ):
            self._search()
        if len(copied) == len(data):
            return
        if not readable:
            self.flags |= GAP[part]
        elif self.wide_flow or (part == REQUEST and self.wide_head):
            self._segments(part, position, data)
        if part == RESPONSE and run.size > len(data):
            self._tail(data, readable=readable)

    def _search(self) -> None:
        data = self.runs[REQUEST].captured
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self.wide_head = self.search and len(data) == INLINE[REQUEST]
        elif data[end:].startswith(METHODS):
            self.wide_flow = self.search
        if self.wide_flow or self.wide_head:
            self.flags |= C["TURN_WIDE"]

    def _segments(self, part: int, position: int, data: bytes) -> None:
        size = C["SEGMENT_DATA_BYTES"]
        for at in range(0, min(len(data), SEGMENT_STEPS * size), size):
            chunk = data[at : at + size]
            head = layout.SEGMENT.pack(
                C["RECORD_SEGMENT"], self.sequence, self.flow_id, position + at, self.now_ns, len(chunk), part
            )
            self.ring.append(ring_record(head + chunk.ljust(size, b"\0")))

    def _tail(self, data: bytes, *, readable: bool) -> None:
        if not readable:
            self.flags &= ~C["TURN_TAIL"]
        elif len(data) >= len(self.tail):
            self.tail = data[-8:]
            self.flags |= C["TURN_TAIL"]
        else:
            self.tail = (self.tail + data)[-8:]

    def _opens_tunnel(self, response: bytes) -> bool:
        if len(response) < 12:
            return False
        connect = self.runs[REQUEST].captured.startswith(b"CONN") and response[8:10] == b" 2"
        return response[8:12] == b" 101" or connect

    def _emit(self, flags: int) -> None:
        self._output(flags)

    def _output(self, flags: int) -> None:
        if self.sequence in self.lost:
            return
        request, response = self.runs[REQUEST], self.runs[RESPONSE]
        handshake_ns = self.handshake_ns if self.sequence == 1 else 0
        head = layout.TURN.pack(
            C["RECORD_TURN"], self.sequence, self.flow_id, self.edge, 80, 40000,
            len(request.captured), len(response.captured), request.position, response.position,
            request.size, response.size, request.first_ns, request.last_ns, response.first_ns, response.last_ns,
            handshake_ns, self.flags | flags, 250, self.retransmits, 0, self.tail,
        )  # fmt: skip
        self.ring.append(ring_record(head + request.captured + response.captured))
