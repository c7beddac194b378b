"""Shapes: what exchanges with the same request, answer and edge have in common in logs and spans, encoded once.

In: an exchange. Out: the bytes of its attributes that do not change from one exchange to the next.
"""

from __future__ import annotations

from typing import Final, Generic

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.records import address_text
from otel_ebpf.telemetry import http, names, wire
from otel_ebpf.telemetry.edges import Edge, Edges, W
from otel_ebpf.telemetry.exchanges import ExchangeCounter
from otel_ebpf.telemetry.redact import redact_query
from otel_ebpf.telemetry.series import Resource

MOST_SHAPES: Final = 1024
"""Shapes kept, about 2 KB each, and as many kinds of them; of shapes twice as many can be alive for a moment."""

LOG_ATTRIBUTES: Final = 6
"""``LogRecord.attributes``"""
SPAN_ATTRIBUTES: Final = 9
"""``Span.attributes``"""

INFO: Final = 9
WARN: Final = 13
ERROR: Final = 17
SEVERITIES: Final = {
    number: wire.tag(2, wire.VARINT) + wire.varint(number) + wire.text(3, name)
    for number, name in ((INFO, "INFO"), (WARN, "WARN"), (ERROR, "ERROR"))
}
"""``LogRecord.severity_number`` and ``severity_text``."""

_EVENT: Final = wire.text(12, names.EVENT_NAME)
"""``LogRecord.event_name``"""
_SERVER_KIND: Final = 2
_CLIENT_KIND: Final = 3
_STATUS_ERROR: Final = wire.lengthy(15, wire.tag(3, wire.VARINT) + wire.varint(2))


class Kind:
    """What exchanges have in common that differ in their path and query alone, so that a new path costs little.

    Attributes:
        resource: Whose telemetry it is.
        watched: Whether the selectors want it.
        spans: Whether there are spans of it at all.
        error: ``error.type``.
        severity: Severity when it is not slow.
        log: Attributes but path and query, and event name of the log record.
        span: Name, kind, attributes but path and query, and status of the span.
        line: What stands before the request in the log's body, its method, its protocol, and what stands behind it.
    """

    def __init__(  # noqa: PLR0913 - all that they have in common
        self, edge: Edge[W], exchange: Exchange, route: str | None, missing: tuple[str, ...], peer: list[bytes], *,
        spans: bool,
    ) -> None:  # fmt: skip
        self.resource: Resource = edge.resource
        self.watched = edge.watched
        self.spans = spans
        self.error = http.error_type(exchange.status, exchange.error_type, client=edge.client)
        self.severity = _severity(exchange, self.error)
        attributes = peer + wire.pairs(_attributes(edge, exchange, missing, route, self.error))
        retransmits = wire.key_value(LOG_ATTRIBUTES, names.TCP_RETRANSMITS, exchange.retransmits)
        self.log = wire.tagged(LOG_ATTRIBUTES, attributes) + retransmits + _EVENT
        self.span = _span(edge, exchange, route, self.error, attributes)
        status = exchange.error_type if exchange.status is None else exchange.status
        protocol = f"HTTP/{exchange.version}" if exchange.version else ""
        self.line = tuple(
            text.encode("utf-8", "replace")
            for text in (f'{edge.peer_text} "', http.text(exchange.method), protocol, f'" {status or "-"} ')
        )


class Shape:
    """What is encoded once.

    Attributes:
        resource: Whose telemetry it is.
        watched: Whether the selectors want it.
        spans: Whether there are spans of it at all.
        error: ``error.type``.
        severity: Severity when it is not slow.
        log: Attributes and event name of the log record.
        span: Name, kind, attributes and status of the span.
        line: Beginning of the log's body: the other end, request line, status.
    """

    __slots__ = ("error", "line", "log", "resource", "severity", "span", "spans", "watched")

    def __init__(self, kind: Kind, exchange: Exchange, target: http.Target) -> None:
        self.resource = kind.resource
        self.watched = kind.watched
        self.spans = kind.spans
        self.error = kind.error
        self.severity = kind.severity
        path, query = target
        own = [] if path is None else [wire.pair(names.URL_PATH, _cut(path))]
        if query is not None:
            own.append(wire.pair(names.URL_QUERY, _cut(query)))
        self.log = wire.tagged(LOG_ATTRIBUTES, own) + kind.log
        self.span = wire.tagged(SPAN_ATTRIBUTES, own) + kind.span
        asked = exchange.target if path is None else path if query is None else path + b"?" + query
        before, method, protocol, behind = kind.line
        request = b" ".join([part for part in (method, _clean(asked[: http.MOST_TEXT_BYTES]), protocol) if part])
        self.line = before + (request or b"-") + behind


def _clean(raw: bytes) -> bytes:
    """Return what ``http.text`` says, as UTF-8."""
    return raw if raw.isascii() else http.text(raw).encode()


def _severity(exchange: Exchange, error: str | None) -> int:
    """ERROR for what broke off and for 5xx, WARN for 4xx on the client side."""
    if error is None:
        return INFO
    return WARN if exchange.error_type is None and exchange.status is not None and exchange.status < 500 else ERROR


def _span(edge: Edge[W], exchange: Exchange, route: str | None, error: str | None, attributes: list[bytes]) -> bytes:
    known = exchange.method in names.METHODS
    method = http.text(exchange.method) if known else "HTTP"
    kind = _CLIENT_KIND if edge.client else _SERVER_KIND
    return b"".join(
        (
            wire.text(5, f"{method} {route}" if route else method),
            wire.tag(6, wire.VARINT) + wire.varint(kind),
            wire.tagged(SPAN_ATTRIBUTES, attributes),
            _STATUS_ERROR if error is not None else b"",
        )
    )


def _attributes(
    edge: Edge[W], exchange: Exchange, missing: tuple[str, ...], route: str | None, error: str | None
) -> wire.Attributes:
    method = exchange.method
    told = http.method_name(method) if method else None
    address, port = _server(edge, exchange.host)
    agent = exchange.user_agent
    return http.known(
        [
            (names.ROLE, edge.role),
            (names.HTTP_REQUEST_METHOD, told),
            (names.HTTP_REQUEST_METHOD_ORIGINAL, _cut(method) if told == names.OTHER_METHOD else None),
            (names.HTTP_RESPONSE_STATUS_CODE, exchange.status),
            (names.URL_TEMPLATE if edge.client else names.HTTP_ROUTE, route),
            (names.ERROR_TYPE, error),
            (names.NETWORK_PROTOCOL_VERSION, exchange.version or None),
            (names.URL_SCHEME, "https" if exchange.tls else "http"),
            (names.USER_AGENT_ORIGINAL, None if agent is None else _cut(agent)),
            (names.SERVER_ADDRESS, address),
            (names.SERVER_PORT, port),
            (names.TLS_ESTABLISHED, True if exchange.tls else None),
            (names.SHARED, True if exchange.shared else None),
            (names.COMPLETE, not missing),
            (names.MISSING, missing or None),
        ]
    )


def _cut(raw: bytes) -> str:
    return http.text(raw[: http.MOST_TEXT_BYTES])


def _missing(exchange: Exchange, target: http.Target) -> tuple[str, ...]:
    """Name what was truncated or never seen; what is cut here counts as well."""
    path, query = target
    texts = (("url.path", path), ("url.query", query), ("user_agent", exchange.user_agent))
    cut = [name for name, raw in texts if raw and len(raw) > http.MOST_TEXT_BYTES]
    return (*exchange.missing, *cut) if cut else exchange.missing


def _server(edge: Edge[W], host: bytes | None) -> tuple[str, int | None]:
    """Return ``server.address`` and ``server.port``: what the client asked for, else the serving end."""
    key = edge.key
    if host:
        address, port = http.host_and_port(host[:255])  # RFC 1035, 2.3.4: no name is longer
        return address, port or key.server_port or None
    return address_text(key.remote_address if edge.client else key.local_address), key.server_port or None


class Shapes(Generic[W]):
    """All shapes in use.

    Args:
        edges: Who everybody is.
        counter: Knows the routes.
        exclude_instrumented: Make no spans for workloads that send their own.
    """

    def __init__(self, edges: Edges[W], counter: ExchangeCounter[W], *, exclude_instrumented: bool) -> None:
        self._exclude_instrumented = exclude_instrumented
        self._edges = edges
        self._counter = counter
        self._known: dict[tuple[object, ...], Shape] = {}
        self._older: dict[tuple[object, ...], Shape] = {}
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._peers: dict[Edge[W], list[bytes]] = {}

    def get(self, exchange: Exchange) -> Shape:
        """Return the shape of an exchange."""
        key = (
            exchange.edge, exchange.method, exchange.target, exchange.version, exchange.status, exchange.host,
            exchange.user_agent, exchange.error_type, exchange.missing, exchange.retransmits, exchange.shared,
            exchange.tls,
        )  # fmt: skip
        shape = self._known.get(key)
        if shape is None:
            if len(self._known) >= MOST_SHAPES:
                self._older, self._known = self._known, {}
            shape = self._known[key] = self._older.get(key) or self._make(exchange)
        return shape

    def refresh(self) -> None:
        """Forget all: workloads may be better known now."""
        self._known.clear()
        self._older.clear()
        self._kinds.clear()
        self._peers.clear()

    def _make(self, exchange: Exchange) -> Shape:
        edge = self._edges.get(exchange.edge)
        path, query = http.split_target(exchange.method, exchange.target)
        target = (path, None if query is None else redact_query(query))
        route = self._counter.route_of(edge, exchange.method, path)
        missing = _missing(exchange, target)
        key = (
            exchange.edge, exchange.method, route, exchange.version, exchange.status, exchange.host,
            exchange.user_agent, exchange.error_type, missing, exchange.retransmits, exchange.shared, exchange.tls,
        )  # fmt: skip
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MOST_SHAPES:
                self._kinds.clear()
            spans = not (self._exclude_instrumented and self._edges.enricher.instrumented(edge.workload))
            kind = self._kinds[key] = Kind(edge, exchange, route, missing, self._peer(edge), spans=spans)
        return Shape(kind, exchange, target)

    def _peer(self, edge: Edge[W]) -> list[bytes]:
        """Return the encoded attributes of the other end."""
        known = self._peers.get(edge)
        if known is None:
            if len(self._peers) >= MOST_SHAPES:
                self._peers.clear()
            known = self._peers[edge] = wire.pairs(edge.detail)
        return known
