"""Selectors: which edges are watched.

In: settings, and what is learnt from edges and listeners. Out: yes or no. Without any selector everything is watched
except the agent and the Collector it sends to. Several kinds of selectors together must all hold, of one kind any one
suffices (as OpenTelemetry's eBPF instrumentation has it). A port selects the process that serves on it, with its client
side too.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from otel_ebpf.config import Settings
from otel_ebpf.enrich.facts import HostFacts, ProcessFacts
from otel_ebpf.enrich.peer import is_loopback
from otel_ebpf.enrich.process import keep
from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, EdgeKey
from otel_ebpf.settings_parse import glob_pattern

MAX_PROCESSES: Final = 4_096  # serving processes of one node; beyond, the first ones go
MAX_COLLECTORS: Final = 64  # addresses a Collector's name may stand for
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SIGNALS: Final = ("metrics", "logs", "traces")


class Collectors:
    """The Collector this agent sends to: by address as far as it is known, and by process once it was seen serving."""

    def __init__(self, settings: Settings, host: HostFacts) -> None:
        self._host = host
        self._ports: set[int] = set()
        self._addresses: set[tuple[bytes, int]] = set()
        self._processes: OrderedDict[int, None] = OrderedDict()
        for signal in _SIGNALS:
            if settings.exporter(signal) == "otlp":
                self._expect(settings.endpoint(signal))

    def _expect(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        self._ports.add(port)
        self._addresses.update((address, port) for address in _literal(parts.hostname or ""))

    def learn(self, edge: EdgeKey) -> None:
        """Take note of where the agent itself connects to (so no name is looked up), and who serves there."""
        if edge.server_port not in self._ports:
            return
        if edge.role == ROLE_CLIENT and edge.tgid == self._host.agent_tgid and len(self._addresses) < MAX_COLLECTORS:
            self._addresses.add((edge.remote_address, edge.server_port))
        elif edge.role == ROLE_SERVER and self._is_here(edge):
            keep(self._processes, edge.tgid, None, MAX_COLLECTORS)

    def _is_here(self, edge: EdgeKey) -> bool:
        if is_loopback(edge.local_address) and edge.netns != self._host.agent_netns:
            return False
        return (edge.local_address, edge.server_port) in self._addresses

    def is_one(self, edge: EdgeKey) -> bool:
        """Tell whether the edge belongs to the Collector's process."""
        return edge.tgid in self._processes


def _literal(host: str) -> tuple[bytes, ...]:
    """Return the packed addresses of a host that needs no look-up."""
    if host == "localhost":
        return b"\x7f\0\0\1", b"\0" * 15 + b"\1"
    try:
        return (ipaddress.ip_address(host).packed,)
    except ValueError:
        return ()


class Selectors:
    """The decision of ``OTEL_EBPF_OPEN_PORT``, ``OTEL_EBPF_AUTO_TARGET_EXE`` and ``OTEL_EBPF_TARGET_PID``."""

    def __init__(self, settings: Settings, host: HostFacts) -> None:
        self._ports = settings.open_ports
        self._pids = frozenset(settings.target_pids)
        self._globs = tuple(glob_pattern(glob) for glob in settings.target_exes)
        self._host = host
        self._serving: OrderedDict[int, None] = OrderedDict()
        self._collectors = Collectors(settings, host)

    def learn(self, edge: EdgeKey) -> None:
        """Take note of what an edge says about its process."""
        self._collectors.learn(edge)
        if edge.role == ROLE_SERVER:
            self.learn_listener(edge.tgid, edge.server_port)

    def learn_listener(self, tgid: int, port: int) -> None:
        """Take note of a process that serves on *port*."""
        if any(first <= port <= last for first, last in self._ports):
            keep(self._serving, tgid, None, MAX_PROCESSES)

    def watched(self, edge: EdgeKey, process: Callable[[], ProcessFacts]) -> bool:
        """Tell whether the edge is wanted; *process* is asked only where an executable is a selector."""
        if edge.tgid == self._host.agent_tgid != 0 or self._collectors.is_one(edge):
            return False
        return self._by_pid(edge) and self._by_port(edge) and self._by_executable(process)

    def _by_pid(self, edge: EdgeKey) -> bool:
        return not self._pids or edge.tgid in self._pids

    def _by_port(self, edge: EdgeKey) -> bool:
        return not self._ports or edge.tgid in self._serving

    def _by_executable(self, process: Callable[[], ProcessFacts]) -> bool:
        """Judge by the full path; of a process that was gone too soon only the name is known, taken as ``/name``."""
        if not self._globs:
            return True
        facts = process()
        path = facts.executable or f"/{facts.name}"
        return any(glob.match(path) for glob in self._globs)
