"""Batches: encoded records that wait to fill an export request.

In: bytes of log records, spans or metrics per Resource. Out: ``Export…ServiceRequest`` bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.series import Resource

MOST_BYTES: Final = 1 << 20
"""Bytes of one request, a thousand records: gRPC servers refuse messages over 4 MiB unless told otherwise."""
LONGEST_WAIT_NS: Final = 10**9
"""A record is not kept longer than this for others to join it."""

LOGS: Final = "logs"
SPANS: Final = "traces"
METRICS: Final = "metrics"
"""Signals, as the ``OTEL_*`` variables call them."""

STAGES: Final = {LOGS: "log", SPANS: "span", METRICS: "metric"}
"""What the ledger calls what they are made of."""

# Resource{Logs,Spans,Metrics} and Scope{…} have the same field numbers: resource or scope 1, contents 2, schema URL 3.
_CONTENTS: Final = 2
_PARTS: Final = 3
"""A record waits as its tag and length, what it shares with others, and the rest."""
_SCHEMA: Final = wire.text(3, names.SCHEMA_URL)


@dataclass(frozen=True, slots=True)
class Request:
    """One export request.

    Attributes:
        signal: ``LOGS``, ``SPANS`` or ``METRICS``.
        items: Records, spans or data points in it.
        size: Bytes, at least about: what the queue counts.
        payload: Makes the message's bytes; called once, on the exporting thread.
    """

    signal: str
    items: int
    size: int
    payload: Callable[[], bytes]


def scope(version: str) -> bytes:
    """Return the ``InstrumentationScope`` field of a Scope… message."""
    return wire.lengthy(1, wire.text(1, names.SCOPE) + wire.text(2, version))


def enclose(resource: Resource, scope_field: bytes, contents: list[bytes]) -> list[bytes]:
    """Put contents under their scope and Resource: one field of an export request, in parts.

    Lengths are reckoned rather than the parts joined at every level: a request is megabytes, and copying it five times
    took longer than encoding it.

    Args:
        resource: Whose they are.
        scope_field: What ``scope`` returns.
        contents: Fields of a Scope… message.
    """
    within_scope = len(scope_field) + sum(map(len, contents)) + len(_SCHEMA)
    head = wire.tag(_CONTENTS, wire.LENGTH) + wire.varint(within_scope)
    owner = wire.lengthy(1, resource.encoded)
    whole = len(owner) + len(head) + within_scope + len(_SCHEMA)
    return [wire.tag(1, wire.LENGTH), wire.varint(whole), owner, head, scope_field, *contents, _SCHEMA, _SCHEMA]


class Batch:
    """Records of one signal, by Resource, until they are taken."""

    def __init__(self, signal: str, version: str) -> None:
        self._signal = signal
        self._scope = scope(version)
        self._prefix = wire.cached_prefix(_CONTENTS)
        self._since_ns = 0
        self._clear()

    def _clear(self) -> None:
        self._records: dict[Resource, list[bytes]] = {}
        self._size = 0

    def add(self, resource: Resource, common: bytes, own: bytes, now_ns: int) -> bool:
        """Add a record; return whether the batch is full.

        Args:
            resource: Whose it is.
            common: Fields of the record that it shares with others: not copied until the request is made.
            own: All other fields.
            now_ns: The time, ns since boot.
        """
        try:
            parts = self._records[resource]
        except KeyError:
            if not self._records:
                self._since_ns = now_ns
            parts = self._records[resource] = []
        size = len(common) + len(own)
        parts += (self._prefix[size], common, own)
        self._size = whole = self._size + size
        return whole >= MOST_BYTES

    def due(self, now_ns: int) -> bool:
        """Tell whether its oldest record has waited long enough."""
        return bool(self._records) and now_ns - self._since_ns >= LONGEST_WAIT_NS

    def take(self) -> Request | None:
        """Return what is in it as a request, None when it is empty."""
        if not self._records:
            return None
        records, scope_field = self._records, self._scope
        items = sum(len(parts) for parts in records.values()) // _PARTS
        request = Request(self._signal, items, self._size, lambda: _payload(records.items(), scope_field))
        self._clear()
        return request


def _payload(records: Iterable[tuple[Resource, list[bytes]]], scope_field: bytes) -> bytes:
    parts: list[bytes] = []
    for resource, found in records:
        parts += enclose(resource, scope_field, found)
    return b"".join(parts)
