"""Edges as telemetry sees them: who it is, who the other end is, and the attributes that follow.

In: the raw 72 bytes of an edge. Out: one ``Edge`` per edge, resolved once per collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from otel_ebpf.records import ROLE_CLIENT, ROLE_NAMES, EdgeKey, address_text
from otel_ebpf.telemetry import names, wire
from otel_ebpf.telemetry.aggregate import Aggregate
from otel_ebpf.telemetry.series import Resource, WorkloadLike

MOST_EDGES: Final = 4096
"""Edges kept resolved, about 1 KB each; twice as many can be alive for a moment. More are resolved anew."""


class PeerLike(Protocol):
    """The other end, as the enrichment found it."""

    @property
    def type(self) -> str:
        """``ebpf.peer.type``."""

    @property
    def name(self) -> str | None:
        """``service.peer.name``."""

    @property
    def namespace(self) -> str | None:
        """``service.peer.namespace``."""

    @property
    def address(self) -> str | None:
        """Its address, where metrics may carry it."""


W = TypeVar("W", bound=WorkloadLike)


class EnricherLike(Protocol[W]):
    """What telemetry asks of the enrichment; none of it waits."""

    def workload(self, edge: EdgeKey) -> W:
        """Return whose telemetry it is."""

    def peer(self, edge: EdgeKey) -> PeerLike:
        """Return the other end."""

    def route(self, workload: W, method: bytes, path: bytes) -> str:
        """Return the route of a path, bounded in number per service."""

    def watched(self, edge: EdgeKey) -> bool:
        """Tell whether the selectors want it."""

    def note_request(self, edge: EdgeKey, workload: W, path: bytes) -> None:
        """Take note of a request: it may show that the workload sends spans of its own."""

    def instrumented(self, workload: W) -> bool:
        """Tell whether the workload sends spans of its own."""

    def age(self) -> None:
        """Forget what was not asked for since the last call but one."""


@dataclass(frozen=True, slots=True, eq=False)
class Edge(Generic[W]):
    """One edge, resolved.

    Attributes:
        key: The decoded edge.
        workload: Whose telemetry it is.
        resource: The same as a Resource.
        watched: Whether the selectors want it.
        client: Whether this end is the client.
        role: ``client``, ``server`` or ``unknown``.
        peer_text: The other end as a person calls it.
        attributes: Of the other end, for metrics.
        detail: Of the other end, for logs and spans: with its address, without the server's.
    """

    key: EdgeKey
    workload: W
    resource: Resource
    watched: bool
    client: bool
    role: str
    peer_text: str
    attributes: wire.Attributes
    detail: wire.Attributes


class Edges(Generic[W]):
    """All edges in use. ``refresh`` makes it ask the enrichment again: what it learnt late applies from then on."""

    def __init__(self, enricher: EnricherLike[W], aggregate: Aggregate) -> None:
        self.enricher = enricher
        self._aggregate = aggregate
        self._known: dict[bytes, Edge[W]] = {}
        self._older: dict[bytes, Edge[W]] = {}

    def get(self, raw: bytes) -> Edge[W]:
        """Return the edge of 72 raw bytes."""
        edge = self._known.get(raw)
        if edge is None:
            if len(self._known) >= MOST_EDGES:
                self._older, self._known = self._known, {}
            edge = self._known[raw] = self._older.get(raw) or self._resolve(EdgeKey.unpack(raw))
        return edge

    def refresh(self) -> None:
        """Forget all answers of the enrichment."""
        self._known.clear()
        self._older.clear()

    def _resolve(self, key: EdgeKey) -> Edge[W]:
        workload, peer = self.enricher.workload(key), self.enricher.peer(key)
        return Edge(
            key=key,
            workload=workload,
            resource=self._aggregate.resource(workload),
            watched=self.enricher.watched(key),
            client=key.role == ROLE_CLIENT,
            role=ROLE_NAMES[key.role],
            peer_text=peer.name or address_text(key.remote_address),
            attributes=_metric_attributes(key, peer),
            detail=_detail_attributes(key, peer),
        )


def _metric_attributes(key: EdgeKey, peer: PeerLike) -> wire.Attributes:
    attributes = _peer_attributes(peer)
    dialled = peer.address or peer.name
    if key.role == ROLE_CLIENT and dialled:
        attributes.append((names.SERVER_ADDRESS, dialled))
    if key.server_port:
        attributes.append((names.SERVER_PORT, key.server_port))
    return (*attributes, (names.NETWORK_TRANSPORT, "tcp"), (names.NETWORK_TYPE, key.network_type))


def _detail_attributes(key: EdgeKey, peer: PeerLike) -> wire.Attributes:
    return (
        *_peer_attributes(peer),
        (names.NETWORK_PEER_ADDRESS, address_text(key.remote_address)),
        (names.NETWORK_TRANSPORT, "tcp"),
        (names.NETWORK_TYPE, key.network_type),
        (names.NETWORK_PROTOCOL_NAME, "http"),
    )


def _peer_attributes(peer: PeerLike) -> list[tuple[str, wire.Value]]:
    attributes: list[tuple[str, wire.Value]] = []
    if peer.name:
        attributes.append((names.SERVICE_PEER_NAME, peer.name))
    if peer.namespace:
        attributes.append((names.SERVICE_PEER_NAMESPACE, peer.namespace))
    return [*attributes, (names.PEER_TYPE, peer.type)]
