"""Discovery: the role of connections that are older than the agent, told from who listens.

In: listeners, and the two ends of a connection. Out: its role, or unknown. The one who listens on the local port is the
server; a connection is a client's when the other end listens, or when its local port is one of those that the kernel
hands out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, EdgeKey, Listener

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_EPHEMERAL_PORTS: Final = range(32768, 61000)
"""``net.ipv4.ip_local_port_range`` as kernels have it by default (Documentation/networking/ip-sysctl.rst)."""

_WILDCARDS: Final = (bytes(4), bytes(16))


class Ends(NamedTuple):
    """The two ends of a connection, as one of them sees it; addresses packed."""

    netns: int
    local_address: bytes
    local_port: int
    remote_address: bytes
    remote_port: int

    @classmethod
    def of(cls, edge: EdgeKey, local_port: int, remote_port: int) -> Ends:
        """The ends of a flow."""
        return cls(edge.netns, edge.local_address, local_port, edge.remote_address, remote_port)


class Listeners:
    """Who listens where, in all network namespaces."""

    def __init__(self, listeners: Iterable[Listener], ephemeral_ports: range = DEFAULT_EPHEMERAL_PORTS) -> None:
        self._here: dict[tuple[int, int], set[bytes]] = {}
        self._anywhere: set[tuple[bytes, int]] = set()
        self._ephemeral_ports = ephemeral_ports
        for listener in listeners:
            self._here.setdefault((listener.netns, listener.port), set()).add(listener.address)
            self._anywhere.add((listener.address, listener.port))

    def serves(self, netns: int, address: bytes, port: int) -> bool:
        """Tell whether somebody listens on this address, or on all of them, in this namespace."""
        addresses = self._here.get((netns, port), ())
        return address in addresses or any(wildcard in addresses for wildcard in _WILDCARDS)

    def role(self, ends: Ends) -> int:
        """The role of the local end: ``ROLE_SERVER``, ``ROLE_CLIENT`` or ``ROLE_UNKNOWN``."""
        if self.serves(ends.netns, ends.local_address, ends.local_port):
            return ROLE_SERVER
        if self.serves(ends.netns, ends.remote_address, ends.remote_port):
            return ROLE_CLIENT
        if (ends.remote_address, ends.remote_port) in self._anywhere:
            return ROLE_CLIENT
        if ends.local_port in self._ephemeral_ports and ends.remote_port not in self._ephemeral_ports:
            return ROLE_CLIENT
        return ROLE_UNKNOWN


def server_port(role: int, ends: Ends) -> int:
    """Port of the serving end; 0 while the role is unknown."""
    return {ROLE_SERVER: ends.local_port, ROLE_CLIENT: ends.remote_port}.get(role, 0)
