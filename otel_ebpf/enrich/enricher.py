"""The enricher: every question that telemetry has about an edge, answered from caches and a few small reads.

In: edges and facts. Out: workload, peer, route, and whether the edge is watched. Nothing here waits.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Final

from otel_ebpf.config import Settings
from otel_ebpf.enrich.facts import ContainerFacts, FactSource, ProcessFacts
from otel_ebpf.enrich.peer import Peer, Peers
from otel_ebpf.enrich.routes import MAX_SERVICES, Patterns, RouteBook
from otel_ebpf.enrich.selectors import Selectors
from otel_ebpf.enrich.workload import UNKNOWN_SERVICE, Workload, agent_workload, place_attributes, workload_of
from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, EdgeKey, Listener

# Distinct workloads of one node between two calls of ``age``. Processes choose their names themselves: a hostile one
# must not make Resources without end. What comes later is told as one service without a name.
MAX_WORKLOADS: Final = 1_024
# How an application sends its own spans (OpenTelemetry Protocol specification: default path, gRPC service).
_SPAN_RECEIVERS: Final = (b"/v1/traces", b"/opentelemetry.proto.collector.trace.v1.TraceService/Export")

_log = logging.getLogger(__name__)


class Enricher:
    """Answers about edges.

    Attributes:
        agent: The Resource of the agent's own telemetry.
        overflows: Workloads and routes that were told under a collective name because a limit was reached.
    """

    def __init__(self, settings: Settings, facts: FactSource) -> None:
        self._facts = facts
        self._host = facts.host()
        self._place = place_attributes(settings.resource_attributes, settings.kube_cluster_name)
        self._peers = Peers(settings.peer_addresses)
        self._selectors = Selectors(settings, self._host)
        self._patterns = Patterns(settings.routes)
        self._route_limit = settings.route_limit
        self._workloads: dict[tuple[str, str | None], Workload] = {}
        self._older: dict[tuple[str, str | None], Workload] = {}
        self._books: dict[tuple[str | None, str], RouteBook] = {}
        self._instrumented: set[Workload] = set()
        self._overflow = workload_of(ProcessFacts(UNKNOWN_SERVICE), None, self._host, self._place)
        self._workloads_overflown = 0
        self._told: set[str] = set()
        self.agent = agent_workload(settings, self._host, version("otel-ebpf"))

    @property
    def overflows(self) -> dict[str, int]:
        """How many workloads and paths were told under a collective name, by what was limited."""
        return {"workload": self._workloads_overflown, "route": sum(book.overflows for book in self._books.values())}

    def workload(self, edge: EdgeKey) -> Workload:
        """Return who runs this end of *edge*; what the edge says about this node's servers is learnt on the way."""
        process = self._facts.process(edge.tgid, edge.comm)
        found = self._workload(process, self._facts.container(edge.cgroup_id, edge.tgid))
        self._selectors.learn(edge)
        self._peers.learn_address(edge.netns, edge.local_address)
        self._learn_namespace(edge.netns, edge.tgid)
        if edge.role == ROLE_SERVER:
            self._peers.learn_server(edge.netns, edge.local_address, edge.server_port, found)
        return found

    def _workload(self, process: ProcessFacts, container: ContainerFacts | None) -> Workload:
        key = (process.name, container.id if container else None)
        found = self._workloads.get(key)
        if found is None:
            found = self._older.get(key) or workload_of(process, container, self._host, self._place)
            if len(self._workloads) >= MAX_WORKLOADS:
                self._workloads_overflown += 1
                return self._overflow
            self._workloads[key] = found
        return found

    def learn_listener(self, listener: Listener) -> None:
        """Take note of a socket that listened before the agent came."""
        process = self._facts.process(listener.tgid, b"")
        workload = self._workload(process, self._facts.container(0, listener.tgid))
        self._selectors.learn_listener(listener.tgid, listener.port)
        self._learn_namespace(listener.netns, listener.tgid)
        self._peers.learn_server(listener.netns, listener.address, listener.port, workload)

    def _learn_namespace(self, netns: int, tgid: int) -> None:
        """Ask a process for the addresses of its network namespace, once per namespace."""
        if not self._peers.knows(netns):
            self._peers.learn_namespace(netns, self._facts.addresses(tgid))

    def peer(self, edge: EdgeKey) -> Peer:
        """Return the other end of *edge*."""
        return self._peers.peer(edge)

    def watched(self, edge: EdgeKey) -> bool:
        """Tell whether the selectors want *edge*; false for the agent itself and the Collector it sends to."""
        self._selectors.learn(edge)
        return self._selectors.watched(edge, lambda: self._facts.process(edge.tgid, edge.comm))

    def route(self, workload: Workload, method: bytes, path: bytes) -> str:
        """Return the route that *path* stands for at the service of *workload*; ``*`` where there is no path.

        At most ``OTEL_EBPF_ROUTE_LIMIT`` distinct routes per service, and the collective ones.
        """
        if method == b"CONNECT":  # RFC 9110, 9.3.6: its target is a host and a port
            return "*"
        return self._book(workload).route(path)

    def _book(self, workload: Workload) -> RouteBook:
        key = (workload.service_namespace, workload.service_name)
        book = self._books.get(key)
        if book is None:
            if len(self._books) >= MAX_SERVICES:
                key = (None, UNKNOWN_SERVICE)
            book = self._books.setdefault(key, RouteBook(self._patterns, self._route_limit))
        return book

    def note_request(self, edge: EdgeKey, workload: Workload, path: bytes) -> None:
        """Take note of a request that shows that *workload* sends spans of its own."""
        if edge.role == ROLE_CLIENT and path in _SPAN_RECEIVERS and workload not in self._instrumented:
            _log.info("%s sends spans of its own", workload.service_name)
            self._instrumented.add(workload)

    def instrumented(self, workload: Workload) -> bool:
        """Tell whether *workload* was seen sending spans of its own."""
        return workload in self._instrumented

    def age(self) -> None:
        """Forget what was not asked for since the last call but one; to be called every ``OTEL_EBPF_METRICS_TTL``."""
        self._older, self._workloads = self._workloads, {}
        self._instrumented &= set(self._older.values())
        self._peers.age()
        self._tell_overflows()
        for book in self._books.values():
            book.age()

    def _tell_overflows(self) -> None:
        """Say once per service that its routes are cut, and once that workloads are."""
        cut = {f"the routes of {name}" for (_, name), book in self._books.items() if book.overflows}
        if self._workloads_overflown:
            cut.add("the workloads of this machine")
        for what in sorted(cut - self._told):
            _log.warning("%s are too many to tell apart: new ones go under a collective name", what)
        self._told |= cut
