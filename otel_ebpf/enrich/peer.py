"""The other end of an edge: what kind of end it is, and its name when it is served from this node.

In: edges, and the servers that were seen or found listening here. Out: :class:`Peer`.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_ebpf.enrich.process import keep
from otel_ebpf.enrich.workload import Workload
from otel_ebpf.records import ROLE_CLIENT, EdgeKey, address_text

LOOPBACK: Final = "loopback"
NODE: Final = "node"
EXTERNAL: Final = "external"
UNKNOWN: Final = "unknown"

MAX_SERVERS: Final = 16_384  # listening (address, port) pairs of one node
MAX_ADDRESSES: Final = 4_096  # local addresses of one node: one or two per container
_SEVERAL: Final = 0  # owner of an address that several namespaces have
_UNSPECIFIED: Final = (b"\0" * 4, b"\0" * 16)
_SHARED: Final = ipaddress.ip_network(
    "100.64.0.0/10"
)  # RFC 6598: behind carriers and in many clusters; nobody's outside


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end.

    Attributes:
        type: ``ebpf.peer.type``: loopback (this very host or container), node (this node under another address),
            external, unknown.
        name: ``service.peer.name``; None when it is not known.
        namespace: ``service.peer.namespace``; None when it is not known.
        address: Its address, where ``OTEL_EBPF_PEER_ADDRESSES`` allows it in metrics; else None.
    """

    type: str
    name: str | None
    namespace: str | None
    address: str | None


class Peers:
    """What is known of the ends on this node; it learns with every edge, so an answer may be a better one later."""

    def __init__(self, addresses: str) -> None:
        """Start without knowledge; *addresses* is ``off``, ``private`` or ``all``."""
        self._addresses = addresses
        self._servers: OrderedDict[tuple[int, bytes, int], Workload] = OrderedDict()
        self._owners: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}
        self._namespaces: set[int] = set()

    def knows(self, netns: int) -> bool:
        """Tell whether the addresses of a network namespace are known."""
        return netns in self._namespaces

    def learn_namespace(self, netns: int, addresses: Iterable[bytes]) -> None:
        """Take note of the addresses of a network namespace. One that several namespaces have is nobody's."""
        for address in addresses:
            self.learn_address(netns, address)
            if len(self._namespaces) < MAX_ADDRESSES:
                self._namespaces.add(netns)

    def learn_address(self, netns: int, address: bytes) -> None:
        """Take note of one address of a network namespace."""
        owner = self._owners.get(address, netns)
        if not is_loopback(address) and (address in self._owners or len(self._owners) < MAX_ADDRESSES):
            self._owners[address] = netns if owner == netns else _SEVERAL

    def learn_server(self, netns: int, address: bytes, port: int, workload: Workload) -> None:
        """Take note of who serves at an address; an unspecified one means every address of that network namespace."""
        key = (netns if _is_per_namespace(address) else 0, _plain(address), port)
        keep(self._servers, key, workload, MAX_SERVERS)

    def peer(self, edge: EdgeKey) -> Peer:
        """Return the other end of *edge*; named only for clients: a server sees addresses, not who they are."""
        kind, netns = self._place(edge)
        server = self._server(edge, netns) if edge.role == ROLE_CLIENT else None
        return Peer(
            kind,
            server.service_name if server else None,
            server.service_namespace if server else None,
            self._shown(edge.remote_address) if kind == EXTERNAL else None,
        )

    def _place(self, edge: EdgeKey) -> tuple[str, int | None]:
        """Return what kind of end it is, and the network namespace it is in when that is known."""
        remote = edge.remote_address
        if len(remote) not in (4, 16) or remote in _UNSPECIFIED:
            return UNKNOWN, None
        owner = self._owners.get(remote, self._older.get(remote))
        if is_loopback(remote) or remote == edge.local_address or owner == edge.netns:
            return LOOPBACK, edge.netns
        return (EXTERNAL, None) if owner is None else (NODE, owner)

    def _server(self, edge: EdgeKey, netns: int | None) -> Workload | None:
        exact = self._servers.get(
            (edge.netns if is_loopback(edge.remote_address) else 0, edge.remote_address, edge.server_port)
        )
        if exact is not None or netns is None:
            return exact
        return self._servers.get((netns, b"", edge.server_port))

    def _shown(self, address: bytes) -> str | None:
        if self._addresses == "all" or (self._addresses == "private" and is_private(address)):
            return address_text(address)
        return None

    def age(self) -> None:
        """Ask for the addresses anew: interfaces come and go."""
        self._namespaces.clear()
        self._older, self._owners = self._owners, {}


def _is_per_namespace(address: bytes) -> bool:
    return is_loopback(address) or address in _UNSPECIFIED


def _plain(address: bytes) -> bytes:
    """Return one form for both unspecified addresses: a socket bound to ``::`` serves IPv4 too (ipv6(7))."""
    return b"" if address in _UNSPECIFIED else address


def is_loopback(address: bytes) -> bool:
    """Tell whether a packed address is 127.0.0.0/8 or ::1."""
    return address[0] == 127 if len(address) == 4 else address == b"\0" * 15 + b"\1"


def is_private(address: bytes) -> bool:
    """Tell whether a packed address stands for nobody on the Internet: RFC 1918, 4193, 6598, link-local."""
    found = ipaddress.ip_address(address)
    return found.is_private or (found.version == 4 and found in _SHARED)
