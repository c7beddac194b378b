"""Details of a request that only its log record and span need: host, user agent, trace context.

In: the head of a request. Out: values as sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.protocols.trace_context import trace_context

if TYPE_CHECKING:
    from otel_ebpf.protocols.exchange import TraceContext

# One pass over the head instead of a line by line reading: this runs for every exchange that is told in full. Folded
# lines, which RFC 9112, 5.2 forbids to send, lose their continuation here.
_WANTED = re.compile(
    rb"\n(host|user-agent|traceparent|tracestate|b3|x-b3-[a-z]{5,7}|sw8)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE
)


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
    host = user_agent = None
    found: dict[bytes, bytes] = {}
    for name, value in _WANTED.findall(block):
        key = name.lower()
        if key == b"host":
            host = value.rstrip() if host is None else host
        elif key == b"user-agent":
            user_agent = value.rstrip() if user_agent is None else user_agent
        elif key not in found:
            found[key] = value.rstrip()
        elif key == b"tracestate":  # Trace Context, 3.3.1.1: several fields are one list
            found[key] += b"," + value.rstrip()
    return Details(host, user_agent, trace_context(found) if found else None)
