"""BPF iterators: programs that walk the kernel's objects when they are read.

In: the descriptor of an iterator program. Out: the bytes it wrote with ``bpf_seq_write``.
"""

from __future__ import annotations

import os
from typing import Final

from otel_ebpf.kernel import bpf

_READ_BYTES: Final = 1 << 16  # the kernel's own buffer is 32 KiB (bpf_seq_read)


def read_iterator(program_fd: int, map_fd: int | None = None) -> bytes:
    """Run an iterator to its end; one over a map's elements needs *map_fd*.

    Raises:
        OSError: The kernel refused to start it, or it failed on the way.
    """
    link = bpf.create_iterator_link(program_fd, map_fd)
    try:
        return read_link(link)
    finally:
        os.close(link)


def read_link(link_fd: int) -> bytes:
    """Run a linked iterator to its end.

    Raises:
        OSError: The kernel refused to start it, or it failed on the way.
    """
    fd = bpf.create_iterator(link_fd)
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            continue  # a million objects gave nothing: the kernel lets others run and asks to read on
        if not part:
            return b"".join(parts)
        parts.append(part)
