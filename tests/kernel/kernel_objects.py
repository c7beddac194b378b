"""What the kernel itself says of the programs, maps and links that it has: independent of what the agent says.

In: process ids. Out: objects by kind and id, and the names of what a program calls. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_ebpf.kernel import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEXT_ID: Final = {"program": 11, "map": 12, "link": 31}  # enum bpf_cmd: BPF_*_GET_NEXT_ID
_HELD: Final = re.compile(r"^(prog|map|link)_id:\s*(\d+)$", re.MULTILINE)
_LONG: Final = {"prog": "program", "map": "map", "link": "link"}


def objects() -> set[tuple[str, int]]:
    """All programs, maps and links that the kernel has, by kind and id."""
    return {(kind, number) for kind, command in _NEXT_ID.items() for number in _ids(command)}


def _ids(command: int) -> Iterator[int]:
    attributes = ctypes.create_string_buffer(12)
    while True:
        try:
            bpf.syscall("bpf", command, attributes, len(attributes))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return
        number = struct.unpack_from("<I", attributes.raw, 4)[0]
        yield number
        struct.pack_into("<I", attributes, 0, number)


def held_by(pid: str) -> set[tuple[str, int]]:
    """Programs, maps and links that the descriptors of a process hold."""
    found = set()
    for info in Path("/proc", pid, "fdinfo").iterdir():
        try:
            found |= {(_LONG[kind], int(number)) for kind, number in _HELD.findall(info.read_text(encoding="ascii"))}
        except OSError:  # closed meanwhile
            continue
    return found


def held_by_anybody() -> set[tuple[str, int]]:
    """The same of all processes."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found |= held_by(entry.name)
            except OSError:  # ended meanwhile
                continue
    return found


def left(candidates: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """What is left of them after a while: the kernel frees them behind a grace period."""
    deadline = time.monotonic() + 5
    while (left := candidates & objects()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


_INSTRUCTION: Final = struct.Struct("<BBhi")
_CALL: Final = 0x85  # BPF_JMP | BPF_CALL; with source register 0 of a helper
_PSEUDO_KINDS: Final = 0xF0  # source register: 0 is a helper


def calls(program_id: int) -> set[str]:
    """Kernel functions that a loaded program calls, by name."""
    fd = bpf.syscall("bpf", 13, ctypes.create_string_buffer(struct.pack("<III", program_id, 0, 0), 12), 12)
    try:
        code = _instructions(fd)
    finally:
        os.close(fd)
    base, names = _symbols()
    rows = _INSTRUCTION.iter_unpack(code)
    return {names[base + imm] for op, registers, _, imm in rows if op == _CALL and not registers & _PSEUDO_KINDS}


def _instructions(fd: int) -> bytes:
    """The program's instructions as the kernel runs them (``struct bpf_prog_info``: ``xlated_prog_insns``)."""
    info = bytearray(bpf._info(fd, 216))
    length = struct.unpack_from("<I", info, 20)[0]
    room = ctypes.create_string_buffer(length)
    wanted = bytearray(216)
    struct.pack_into("<I", wanted, 20, length)
    struct.pack_into("<Q", wanted, 32, ctypes.addressof(room))
    buffer = ctypes.create_string_buffer(bytes(wanted), len(wanted))
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", fd, len(wanted), ctypes.addressof(buffer)), 16)
    bpf.syscall("bpf", bpf.Command.OBJ_GET_INFO_BY_FD, attributes, 16)
    return room.raw


def _symbols() -> tuple[int, dict[int, str]]:
    rows = (line.split()[:3] for line in Path("/proc/kallsyms").read_text(encoding="ascii").splitlines())
    names = {int(address, 16): name for address, _, name in rows}
    base = next(address for address, name in names.items() if name == "__bpf_call_base")
    return base, names
