"""Network namespaces: their own addresses, from the routing tables of a process."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.enrich import network
from otel_ebpf.enrich.network import addresses_in, local_addresses

FIB_TRIE: Final = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.2
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
Local:
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 172.17.0.2
           /32 host LOCAL
"""
IF_INET6: Final = """\
fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


def net(tmp_path: Path, fib_trie: bytes, if_inet6: bytes) -> Path:
    """Make a procfs with one process, 7."""
    folder = tmp_path / "7" / "net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fib_trie").write_bytes(fib_trie)
    (folder / "if_inet6").write_bytes(if_inet6)
    return tmp_path


def test_local_addresses_of_both_families_are_found_once(tmp_path: Path) -> None:
    """Host addresses count; networks, broadcasts and repetitions do not."""
    found = local_addresses(net(tmp_path, FIB_TRIE.encode(), IF_INET6.encode()), 7)
    assert [str(ip_address(one)) for one in found] == ["127.0.0.1", "172.17.0.2", "fd00::2", "::1"]


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    """What cannot be asked is empty."""
    assert local_addresses(tmp_path, 8) == ()


def test_a_huge_routing_table_is_read_in_part(tmp_path: Path) -> None:
    """No more than the bound is read."""
    entry = b"  |-- 10.0.0.1\n     /32 host LOCAL\n"
    found = local_addresses(net(tmp_path, b" " * network.MAX_BYTES + entry, b""), 7)
    assert found == ()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_noise_is_no_address(fib_trie: bytes, if_inet6: bytes) -> None:
    """Arbitrary bytes, also where an address should stand, give addresses of four or sixteen bytes, or none."""
    found = addresses_in(b"|-- " + fib_trie + b"\n /32 host LOCAL", if_inet6)
    assert all(len(one) in (4, 16) for one in found)
    assert addresses_in(b"|-- 999.1.1.1\n /32 host LOCAL", b"zz") == ()


def test_this_namespace_has_loopback() -> None:
    """The real procfs of this process is understood."""
    assert b"\x7f\0\0\1" in local_addresses(Path("/proc"), os.getpid())
