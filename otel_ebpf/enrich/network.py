"""Network namespaces: which addresses are a namespace's own, so that a peer on this node is known as one.

In: ``/proc/<tgid>/net`` of any process in the namespace. Out: packed addresses.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

MAX_BYTES: Final = (
    1 << 20
)  # of a routing table; a router with more is told in part: its own addresses stand near the top
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LOCAL: Final = re.compile(rf"\|-- ({_OCTET}(?:\.{_OCTET}){{3}})\n\s+/32 host LOCAL".encode())
_IPV6: Final = re.compile(rb"^([0-9a-f]{32}) ", re.MULTILINE)


def local_addresses(proc: Path, tgid: int) -> tuple[bytes, ...]:
    """Return every address of the namespace of *tgid*, loopback among them; empty when it cannot be asked."""
    net = proc / str(tgid) / "net"
    return addresses_in(_head(net / "fib_trie"), _head(net / "if_inet6"))


def addresses_in(fib_trie: bytes, if_inet6: bytes) -> tuple[bytes, ...]:
    """Return the packed addresses that the kernel's two files tell, each once."""
    ipv4 = (IPv4Address(text.decode()).packed for text in _LOCAL.findall(fib_trie))
    ipv6 = (bytes.fromhex(text.decode()) for text in _IPV6.findall(if_inet6))
    return tuple(dict.fromkeys((*ipv4, *ipv6)))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError:
        return b""
