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
_SPAN_ID: Final = struct.Struct(">Q").pack

# 2^64 divided by the golden ratio: multiples of it keep away from each other, as far as numbers of 64 bits can.
_GOLDEN: Final = 0x9E3779B97F4A7C15
_U64: Final = (1 << 64) - 1

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
        self._first = int.from_bytes(salt[:8], "big")
        self._sampler = sampler

    def context(self, exchange: Exchange) -> SpanContext:
        """Return the span of an exchange: a child of the caller's span, else the root of a new trace.

        Ids are made of flow and sequence rather than random, so that a replay tells the same ones. A trace id is a
        hash: samplers take it for random. A span id only has to be another one each time, and there is one per
        exchange: flow and sequence are spread over all numbers, and two agents begin at different ones. Two of one
        agent are alike when flows that are F apart have sequences that are at least 2^61 / F apart: never.
        """
        flow_id, sequence, parent = exchange.flow_id, exchange.sequence, exchange.trace
        span_id = _SPAN_ID((flow_id * _GOLDEN + sequence) * _GOLDEN + self._first & _U64)
        if parent is not None:
            trace_id, parent_id, decided, state = parent
            if len(trace_id) == 16 and len(parent_id) == 8:
                told = state if not state or state.isascii() else b""
                return trace_id, span_id, parent_id, told, self._sampler(decided, trace_id)
        trace_id = blake2s(_KEY(self._salt, flow_id, sequence), digest_size=16).digest()
        return trace_id, span_id, b"", b"", self._sampler(None, trace_id)
