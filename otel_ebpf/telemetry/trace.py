"""Trace identity: which trace an exchange belongs to, its span id, and whether the span is sampled.

In: an exchange. Out: a ``SpanContext``, the same for the same recording.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2s
from typing import Final

from otel_ebpf.protocols.exchange import Exchange

_KEY: Final = struct.Struct("<16sQQ").pack

ALWAYS: Final = 1 << 64
"""A trace id's lower half is always below this."""

Sampler = Callable[[bool | None, bytes], bool]
"""From the caller's decision (None: none, or left open) and the trace id to whether there is a span."""


SpanContext = tuple[bytes, bytes, bytes, bytes, bool]
"""Who a span is: its trace id (16 bytes), span id (8), its parent's span id and ``tracestate`` (empty: none), and
whether it is sampled. A plain tuple: there is one per record."""


def threshold(ratio: float) -> int:
    """Return the bound of the TraceIdRatioBased sampler: below it a trace id's lower 64 bits are sampled."""
    return round(ratio * ALWAYS)


def make_sampler(name: str, ratio: float) -> Sampler:
    """Make a sampler by its name in ``OTEL_TRACES_SAMPLER`` (trace SDK specification, "Built-in samplers").

    A caller that left the decision open is taken for no caller.
    """
    bound = {"always_on": ALWAYS, "always_off": 0, "traceidratio": threshold(ratio)}[name.removeprefix("parentbased_")]
    follows = name.startswith("parentbased_")

    def sample(decided: bool | None, trace_id: bytes) -> bool:  # noqa: FBT001 - a type alias knows no names
        if follows and decided is not None:
            return decided
        return bound == ALWAYS or int.from_bytes(trace_id[8:], "big") < bound

    return sample


class Tracer:
    """Gives exchanges their place in traces.

    Args:
        salt: 16 bytes that differ per start of the agent (flow ids are only unique within one); a recording keeps them.
        sampler: Decides which spans there are.
    """

    def __init__(self, salt: bytes, sampler: Sampler) -> None:
        self._salt = salt
        self._sampler = sampler

    def context(self, exchange: Exchange) -> SpanContext:
        """Return the span of an exchange: a child of the caller's span, else the root of a new trace.

        Ids are a hash of flow and sequence rather than random, so that a replay tells the same ones.
        """
        digest = blake2s(_KEY(self._salt, exchange.flow_id, exchange.sequence)).digest()
        parent = exchange.trace
        if parent is not None:
            trace_id, parent_id, decided, state = parent
            if len(trace_id) == 16 and len(parent_id) == 8:
                sampled = self._sampler(decided, trace_id)
                return trace_id, digest[16:24], parent_id, state if state.isascii() else b"", sampled
        trace_id = digest[:16]
        return trace_id, digest[16:24], b"", b"", self._sampler(None, trace_id)
