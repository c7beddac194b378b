"""The ``bpf(2)`` system call, by ctypes: the little of it that the loader and the agent need.

In: descriptors and packed attributes (``union bpf_attr`` of ``include/uapi/linux/bpf.h``). Out: descriptors, values.
Every call raises :class:`OSError` with the kernel's errno. Descriptors that are returned are closed by the caller.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCALLS: Final = {"x86_64": {"bpf": 321, "perf_event_open": 298}, "aarch64": {"bpf": 280, "perf_event_open": 241}}
_LOG_BYTES: Final = 1 << 20  # the verifier says how it came to the refusal; only the end of it is kept
_NAME_BYTES: Final = 16  # BPF_OBJ_NAME_LEN, with the NUL

ENOENT: Final = 2
ENOSPC: Final = 28


class Command(IntEnum):
    """``enum bpf_cmd``."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    PROG_LOAD = 5
    PROG_GET_NEXT_ID = 11
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    MAP_LOOKUP_BATCH = 24
    LINK_CREATE = 28
    ENABLE_STATS = 32
    ITER_CREATE = 33


class ProgramType(IntEnum):
    """``enum bpf_prog_type``."""

    KPROBE = 2
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """``enum bpf_attach_type``."""

    NONE = 0
    TRACE_RAW_TP = 23
    TRACE_FENTRY = 24
    TRACE_FEXIT = 25
    TRACE_ITER = 28


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map; sizes in bytes. Values of per-CPU maps are *value_size* for each possible CPU."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel says of a program; all numbers are 0 unless :func:`enable_stats` is on (misses: 5.12)."""

    id: int
    name: str
    run_time_ns: int
    run_count: int
    recursion_misses: int


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def syscall(name: str, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """Call the system call *name*.

    Raises:
        OSError: With the errno of the call.
    """
    numbers = _SYSCALLS.get(platform.machine())
    if numbers is None:
        raise OSError(38, f"otel-ebpf does not know the system calls of {platform.machine()}")
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = _libc().syscall(ctypes.c_long(numbers[name]), *words)
    if result < 0:
        raise OSError(error := ctypes.get_errno(), os.strerror(error))
    return int(result)


def bpf(command: Command, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """Call ``bpf(2)``; *attributes* may be written to."""
    return syscall("bpf", int(command), attributes, len(attributes))


def _packed(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    raw = struct.pack("<" + layout, *values)
    return ctypes.create_string_buffer(raw, len(raw))


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return ctypes.addressof(buffer) if buffer is not None else 0


# -- maps ------------------------------------------------------------------------------------------------------------


def create_map(kind: int, key_size: int, value_size: int, max_entries: int) -> int:
    """Create a map (``enum bpf_map_type``); return its descriptor."""
    return bpf(Command.MAP_CREATE, _packed("IIIIIIII16s", kind, key_size, value_size, max_entries, 0, 0, 0, 0, b""))


def lookup(map_fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Return the value of *key*, None when there is none. *value_bytes* has to be what the kernel writes."""
    keys, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value_bytes)
    try:
        bpf(Command.MAP_LOOKUP_ELEM, _packed("IIQQQ", map_fd, 0, _address(keys), _address(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Set the value of *key*, new or not."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    bpf(Command.MAP_UPDATE_ELEM, _packed("IIQQQ", map_fd, 0, _address(keys), _address(values), 0))


def delete(map_fd: int, key: bytes) -> bool:
    """Remove *key*; return False when it was not there."""
    keys = ctypes.create_string_buffer(key, len(key))
    try:
        bpf(Command.MAP_DELETE_ELEM, _packed("IIQQQ", map_fd, 0, _address(keys), 0, 0))
    except FileNotFoundError:
        return False
    return True


def lookup_batches(map_fd: int, key_bytes: int, value_bytes: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Walk a hash map (5.6): pairs of all keys and all values of a batch, each one after the other.

    *count* is how many entries a batch may have; it grows when one bucket of the map holds more. Entries that are
    written meanwhile may be missed.
    """
    token: ctypes.Array[ctypes.c_char] | None = None
    more = True
    while more:
        following = ctypes.create_string_buffer(max(key_bytes, 8))
        keys, values = ctypes.create_string_buffer(key_bytes * count), ctypes.create_string_buffer(value_bytes * count)
        attributes = _packed(
            "QQQQIIQQ", _address(token), _address(following), _address(keys), _address(values), count, map_fd, 0, 0
        )
        try:
            bpf(Command.MAP_LOOKUP_BATCH, attributes)
        except OSError as error:
            if error.errno == ENOSPC:
                count *= 2
                continue
            if error.errno != ENOENT:
                raise
            more = False
        (taken,) = struct.unpack_from("<I", attributes.raw, 32)
        yield keys.raw[: taken * key_bytes], values.raw[: taken * value_bytes]
        token = following


# -- programs and links ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """A program to load.

    Attributes:
        instructions: As the compiler made them, map descriptors filled in.
        btf_id: Type id of what a tracing program attaches to; 0 for the others.
        kernel_version: ``LINUX_VERSION_CODE``; kernels before 5.0 ask for it.
    """

    name: str
    type: ProgramType
    instructions: bytes
    attach_type: AttachType = AttachType.NONE
    btf_id: int = 0
    kernel_version: int = 0


class VerifierError(OSError):
    """The kernel refused a program; the text ends with the end of what the verifier said."""


def load_program(program: Program) -> int:
    """Load *program* under the GPL; return its descriptor.

    Raises:
        VerifierError: With the kernel's answer.
    """
    try:
        return _load_program(program, None)
    except OSError as error:
        first = error
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        return _load_program(program, log)  # again, for the log: it costs time only where it is read
    except OSError as error:
        if error.errno != ENOSPC:  # ENOSPC: the log was too long
            first = error
    said = log.value.decode(errors="replace").strip()
    raise VerifierError(first.errno, "\n".join(filter(None, (first.strerror, said[-700:]))))


def _load_program(program: Program, log: ctypes.Array[ctypes.c_char] | None) -> int:
    code = ctypes.create_string_buffer(program.instructions, len(program.instructions))
    license_text = ctypes.create_string_buffer(b"GPL")
    attributes = _packed(
        "IIQQIIQII16sIIIIQIIQIII",
        program.type,
        len(program.instructions) // 8,
        _address(code),
        _address(license_text),
        1 if log is not None else 0,
        len(log) if log is not None else 0,
        _address(log),
        program.kernel_version,
        0,  # prog_flags
        program.name.encode()[: _NAME_BYTES - 1],
        0,  # prog_ifindex
        program.attach_type,
        *(0, 0, 0, 0, 0, 0, 0),  # types and lines of the program itself
        program.btf_id,
        0,  # attach_btf_obj_fd: vmlinux
    )
    return bpf(Command.PROG_LOAD, attributes)


def open_raw_tracepoint(program_fd: int, name: str = "") -> int:
    """Attach a program and return the link: a raw tracepoint by *name*, a tracing program to what it was loaded for."""
    text = ctypes.create_string_buffer(name.encode()) if name else None
    return bpf(Command.RAW_TRACEPOINT_OPEN, _packed("QII", _address(text), program_fd, 0))


def create_iterator_link(program_fd: int, map_fd: int | None = None) -> int:
    """Link an iterator program, for iterators over a map to *map_fd*; return the link (5.8; 5.9 for maps)."""
    info = _packed("I", map_fd) if map_fd is not None else None
    length = len(info) if info is not None else 0
    return bpf(
        Command.LINK_CREATE, _packed("IIIIQII", program_fd, 0, AttachType.TRACE_ITER, 0, _address(info), length, 0)
    )


def create_iterator(link_fd: int) -> int:
    """Start one run of a linked iterator; return the descriptor to read it from."""
    return bpf(Command.ITER_CREATE, _packed("II", link_fd, 0))


# -- information -----------------------------------------------------------------------------------------------------


def _info(fd: int, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    bpf(Command.OBJ_GET_INFO_BY_FD, _packed("IIQ", fd, size, _address(buffer)))
    return buffer.raw


def map_info(map_fd: int) -> MapInfo:
    """Ask the kernel for the shape of a map (``struct bpf_map_info``)."""
    kind, _, key, value, entries, _, name = struct.unpack("<IIIIII16s", _info(map_fd, 40))
    return MapInfo(name.partition(b"\0")[0].decode(), kind, key, value, entries)


def program_info(program_fd: int) -> ProgramInfo:
    """Ask the kernel how often a program ran, and how long (``struct bpf_prog_info``)."""
    raw = _info(program_fd, 216)
    (number,) = struct.unpack_from("<I", raw, 4)
    run_time, count, misses = struct.unpack_from("<QQQ", raw, 192)
    return ProgramInfo(number, raw[64:80].partition(b"\0")[0].decode(), run_time, count, misses)


def program_ids() -> Iterator[int]:
    """Ids of all programs that are loaded on this machine."""
    attributes = _packed("III", 0, 0, 0)
    while True:
        try:
            bpf(Command.PROG_GET_NEXT_ID, attributes)
        except FileNotFoundError:
            return
        _, number = struct.unpack_from("<II", attributes.raw)
        yield number
        struct.pack_into("<I", attributes, 0, number)


def enable_stats() -> int:
    """Let the kernel time every program of the machine, until the returned descriptor is closed (5.8)."""
    return bpf(Command.ENABLE_STATS, _packed("I", 0))
