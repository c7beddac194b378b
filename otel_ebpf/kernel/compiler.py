"""The short-lived child: compiles with BCC, loads and attaches, hands the descriptors over, and exits.

In: a :class:`~otel_ebpf.kernel.handover.LoadRequest` over the socket whose descriptor is the only argument. Out:
descriptors and the report, over the same socket. It leaves with ``os._exit``: what it attached lives on in the
receiver. Nothing else imports BCC, so the compiler's memory and its code are never part of the agent.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import resource
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_ebpf.errors import AgentError, CannotRun
from otel_ebpf.kernel import bpf, slices
from otel_ebpf.kernel.attach import Attached, Attacher
from otel_ebpf.kernel.btf import Btf
from otel_ebpf.kernel.handover import DESCRIPTORS_EACH, MESSAGE_BYTES, LoadRequest
from otel_ebpf.kernel.plan import Plan
from otel_ebpf.kernel.source import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

_MAP_TYPE_ARRAY: Final = 2
_SAID_BYTES: Final = 1 << 16
_STDERR: Final = 2


def serve(channel: socket.socket) -> None:
    """Answer the one request that comes over *channel*."""
    request = LoadRequest.from_json(json.loads(channel.recv(MESSAGE_BYTES)))
    answer: dict[str, Any]
    descriptors: list[tuple[str, str, int]] = []
    try:
        answer = _load(request, descriptors)
    except AgentError as error:
        answer = {"error": str(error)}
    _send_descriptors(channel, descriptors)
    channel.send(json.dumps(answer).encode())


def _send_descriptors(channel: socket.socket, descriptors: list[tuple[str, str, int]]) -> None:
    for start in range(0, len(descriptors), DESCRIPTORS_EACH):
        some = descriptors[start : start + DESCRIPTORS_EACH]
        names = json.dumps([(kind, name) for kind, name, _ in some]).encode()
        socket.send_fds(channel, [names], [fd for _, _, fd in some])


def _load(request: LoadRequest, descriptors: list[tuple[str, str, int]]) -> dict[str, Any]:
    """Compile and attach; add what came of it to *descriptors* and return the answer."""
    _check_privileges()
    btf = Btf.load()
    rendered = slices.render(btf, request.wanted)
    directory = Path(request.directory)
    text = rendered.text + flatten(_reader(directory), request.main)
    version = version_code(platform.release())
    attacher = Attacher(btf, rendered.macros, request.hooks, version)
    plan = Plan(request.hooks, request.probes_off)
    while (
        True
    ):  # a program that the kernel refuses makes another one necessary: seldom, and at most once per alternative
        plan.settle(attacher.trial)
        defines = {"LINUX_VERSION_CODE": version, **request.defines, **plan.macros()}
        module = Module(text, defines, directory / "stub")
        attached = attacher.attach(plan, module.instructions)
        if attached is not None:
            break
        module.close()
    descriptors += (("map", name, fd) for name, fd in module.maps().items())
    descriptors += (pair for one in attached for pair in _described(one))
    return {"report": [choice.row().to_json() for choice in plan.choices], "macros": rendered.macros}


def _described(attached: Attached) -> list[tuple[str, str, int]]:
    programs = [("program", name, fd) for name, fd in attached.programs]
    return programs + [("link", "", fd) for fd in attached.links]


def _check_privileges() -> None:
    """Fail early and clearly: BCC's own message would come after the whole compilation, from deep inside."""
    with suppress(OSError, ValueError):  # before 5.11 maps count as locked memory; the limit may do as it is
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        os.close(bpf.create_map(_MAP_TYPE_ARRAY, 4, 8, 1))
    except PermissionError:
        raise CannotRun(
            "the kernel does not let this process use BPF (EPERM): run as root, or with CAP_BPF and CAP_PERFMON "
            "(before Linux 5.8: CAP_SYS_ADMIN)"
        ) from None
    except OSError as error:
        raise CannotRun(f"this kernel cannot run BPF programs: {error.strerror}") from None


def _reader(directory: Path) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        try:
            return (directory / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    return read


def version_code(release: str) -> int:
    """``LINUX_VERSION_CODE`` of a release such as ``6.1.0-28-amd64``; patch levels beyond 255 count as 255."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    major, minor, patch = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    return (major << 16) + (minor << 8) + min(patch, 255)


class Module:
    """C compiled by BCC to instructions, with its maps created.

    Raises:
        CannotRun: BCC is not installed, or the text does not compile, or a map cannot be created.
    """

    def __init__(self, text: str, defines: dict[str, int], stub: Path) -> None:
        if not stub.is_dir():
            raise CannotRun(f"{stub} is missing: otel-ebpf is not installed completely")
        os.environ["BCC_KERNEL_SOURCE"] = str(stub.resolve())  # read by libbcc; without it BCC looks for kernel headers
        self._lib = _library()
        flags = [f"-D{name}={value}".encode() for name, value in defines.items()]
        array = (ctypes.c_char_p * len(flags))(*flags)
        allow_rlimit, device = False, None
        self._module = self._lib.bpf_module_create_c_from_string(
            text.encode(), 0, array, len(flags), allow_rlimit, device
        )
        if not self._module:
            raise CannotRun(compile_error(_printed()))

    def instructions(self, function: str) -> bytes | None:
        """Return the instructions of a program, None when there is no such function."""
        name = function.encode()
        start = self._lib.bpf_function_start(self._module, name)
        return ctypes.string_at(start, self._lib.bpf_function_size(self._module, name)) if start else None

    def close(self) -> None:
        """Give the maps up."""
        self._lib.bpf_module_destroy(self._module)
        self._module = None

    def maps(self) -> dict[str, int]:
        """Return the descriptors of all maps by name."""
        lib, module = self._lib, self._module
        return {
            lib.bpf_table_name(module, number).decode(): lib.bpf_table_fd_id(module, number)
            for number in range(lib.bpf_num_tables(module))
        }


def _library() -> Any:
    """Load libbcc, as its own Python package declares it."""
    try:
        from bcc.libbcc import lib  # noqa: PLC0415 - 100 MB: only once a program is really compiled
    except (ImportError, OSError) as error:
        raise CannotRun(f"BCC is missing (Debian: python3-bpfcc): {error}") from None
    # Functions of bcc_common.h that the package does not declare.
    lib.bpf_num_tables.argtypes, lib.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
    lib.bpf_table_name.argtypes, lib.bpf_table_name.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_char_p
    lib.bpf_table_fd_id.argtypes, lib.bpf_table_fd_id.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_int
    return lib


def _printed() -> str:
    """Return what this process has printed: its standard error is a file in memory."""
    return os.pread(_STDERR, _SAID_BYTES, 0).decode(errors="replace")


def compile_error(printed: str) -> str:
    """Return one sentence from what BCC printed: the first error it tells."""
    lines = [line.strip() for line in printed.splitlines()]
    for line in lines:
        if re.search(r"(^|: )(fatal )?error: ", line):
            return f"the kernel programs do not compile: {line}"
        if line.startswith("could not open bpf map"):
            return f"a map cannot be created: {line}"
    return "the kernel programs do not compile: " + next(filter(None, reversed(lines)), "BCC does not say why")


def main() -> None:
    """Serve the request on the socket given as the first argument; never returns."""
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except BaseException:  # noqa: BLE001 - the end of the process: what is printed is what the agent can tell
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # no atexit: nothing may detach what was handed over


if __name__ == "__main__":
    main()
