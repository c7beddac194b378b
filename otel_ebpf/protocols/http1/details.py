"""Details of a request that only its log record and span need: host, user agent, trace context.

In: the head of a request. Out: values as sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.protocols.trace_context import PLAIN_BYTES, from_plain_traceparent, trace_context

if TYPE_CHECKING:
    from otel_ebpf.protocols.exchange import TraceContext

MOST_HEADS: Final = 512
"""Header sections kept; twice as many can be alive for a moment: a megabyte at the very most."""
MOST_HEAD_BYTES: Final = 1024
"""Longer ones are not kept: they carry what differs each time, cookies and tokens."""

# One pass over the head instead of a line by line reading: this runs for every exchange that is told in full. Folded
# lines, which RFC 9112, 5.2 forbids to send, lose their continuation here.
_WANTED = re.compile(
    rb"\n(host|user-agent|traceparent|tracestate|b3|x-b3-[a-z]{5,7}|sw8)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE
)
_TRACEPARENT = re.compile(rb"\ntraceparent[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_MARK: Final = b"raceparent: "  # as everybody sends it, with a small T or a large one
_MARK_BYTES: Final = len(_MARK)

Fields = tuple[bytes | None, bytes | None, "TraceContext | None"]
"""``Details`` as a plain tuple: there is one per exchange."""


class Details(NamedTuple):
    """What a request says about itself beyond its request line; None where it does not."""

    host: bytes | None
    user_agent: bytes | None
    trace: TraceContext | None


NO_DETAILS: Final = Details(None, None, None)


def details(block: bytes) -> Details:
    """Read the details of the request whose head is *block*.

    Of a field sent twice the first counts, but ``tracestate`` is joined.
    """
    found: dict[bytes, bytes] = {}
    for name, value in _WANTED.findall(block):
        key = name.lower()
        if key not in found:
            found[key] = value.rstrip()
        elif key == b"tracestate":  # Trace Context, 3.3.1.1: several fields are one list
            found[key] += b"," + value.rstrip()
    host, user_agent = found.pop(b"host", None), found.pop(b"user-agent", None)
    return Details(host, user_agent, trace_context(found) if found else None)


class KnownHeads:
    """Reads the details of requests; a header section that comes again is read once.

    A client sends the same fields with each request, whatever it asks for. Only ``traceparent`` differs, so it is cut
    out of what is looked up and read each time.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Details] = {}
        self._older: dict[bytes, Details] = {}

    def read(self, buffer: bytes, start: int, end: int) -> Fields:
        """Return the details of the request whose header section is ``buffer[start:end]``.

        It begins with the end of the request line and ends with the empty line.
        """
        value = buffer.find(_MARK, start, end) + _MARK_BYTES
        if value < _MARK_BYTES:
            key = buffer[start:end]
            return self._known.get(key) or self._learn(key, key)
        key = buffer[start:value] + buffer[value + PLAIN_BYTES : end]
        known = self._known.get(key)
        if known is None:
            return self._learn(key, buffer[start:end])
        host, user_agent, first = known
        trace = from_plain_traceparent(buffer, value, first.state if first else b"")
        return (host, user_agent, trace) if trace else details(buffer[start:end])

    def _learn(self, key: bytes, block: bytes) -> Details:
        """Read *block*, and keep what was found where *key* tells all of it but a trace context of the same shape."""
        found = self._older.get(key) if key is block else None
        found = found or details(block)
        if len(key) <= MOST_HEAD_BYTES and (key is block or _is_plain(block)):
            if len(self._known) >= MOST_HEADS:
                self._older, self._known = self._known, {}
            self._known[key] = found
        return found


def _is_plain(block: bytes) -> bool:
    """Tell whether what stands behind the mark is the value of the ``traceparent`` that counts, and nothing else.

    Then another such value in its place changes no other field: it holds no line end.
    """
    field = _TRACEPARENT.search(block)
    at = block.find(_MARK) + _MARK_BYTES
    return (
        field is not None
        and field.span(1) == (at, at + PLAIN_BYTES)
        and from_plain_traceparent(block, at, b"") is not None
    )
