"""Network namespaces joined by a veth pair: traffic that crosses a (virtual) wire and disturbs nobody.

In: nothing. Out: two namespaces with addresses, gone again when the block is left; needs root.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PREFIX: Final = "oebpf"
_NAME: Final = re.compile(rf"^{_PREFIX}(\d+)-\d+[ab]$")


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace.

    Attributes:
        name: As ``ip netns`` knows it.
        address: IPv4 address of its end of the veth pair.
        address6: IPv6 address of it.
        device: Name of its end of the veth pair.
    """

    name: str
    address: str
    address6: str
    device: str

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command, to be run inside."""
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, command: Sequence[str | Path], timeout_s: float = 60) -> str:
        """Standard output of a command that is run inside and must succeed."""
        return subprocess.run(
            self.command(command), check=True, capture_output=True, text=True, timeout=timeout_s
        ).stdout


@contextmanager
def veth_pair(number: int = 0) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces, each with loopback and one end of a veth pair; *number* tells pairs of one process apart."""
    remove_stale()
    pair = tuple(_namespace(number, side) for side in (1, 2))
    with ExitStack() as undo:
        for namespace in pair:
            _ip(f"netns add {namespace.name}")
            undo.callback(_ip, f"netns delete {namespace.name}")
        _join(*pair)
        yield pair[0], pair[1]


def remove_stale() -> None:
    """Delete namespaces that a killed process of ours left behind."""
    folder = Path("/run/netns")
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.match(path.name)
        if match and not Path("/proc", match[1]).exists():
            _ip(f"netns delete {path.name}")


def _namespace(number: int, side: int) -> Namespace:
    letter = "ab"[side - 1]
    return Namespace(
        name=f"{_PREFIX}{os.getpid()}-{number}{letter}",
        address=f"10.213.{number}.{side}",
        address6=f"fd00:213:{number:x}::{side}",
        device=f"veth{letter}",
    )


def _join(one: Namespace, other: Namespace) -> None:
    _ip(f"-n {one.name} link add {one.device} type veth peer name {other.device} netns {other.name}")
    for namespace in (one, other):
        _ip(f"-n {namespace.name} address add {namespace.address}/30 dev {namespace.device}")
        # nodad: the address is usable at once, without waiting for duplicate address detection
        _ip(f"-n {namespace.name} address add {namespace.address6}/64 dev {namespace.device} nodad")
        _ip(f"-n {namespace.name} link set lo up")
        _ip(f"-n {namespace.name} link set {namespace.device} up")


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, timeout=30)
