"""Starts the compile child and takes over what it loaded.

In: what to compile and attach. Out: descriptors of maps, programs and links, which now belong to this process, and the
report of the hooks. The child is gone when :func:`load` returns, and with it the compiler.

On the wire, over a socket pair that keeps messages apart: a request, as JSON; then any number of messages with
descriptors, each with a JSON list of what they are; then the answer, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from otel_ebpf.errors import CannotRun
from otel_ebpf.kernel import probes
from otel_ebpf.kernel.probes import PROBES, Hook, OutcomeRow
from otel_ebpf.kernel.slice_table import TABLE, Wanted

if TYPE_CHECKING:
    import resource
    from types import TracebackType

CHILD_MODULE: Final = "otel_ebpf.kernel.compiler"
MESSAGE_BYTES: Final = 1 << 17  # below net.core.wmem_default of every kernel; the whole table is 10 KiB
DESCRIPTORS_EACH: Final = 250  # SCM_MAX_FD is 253
_TIMEOUT_S: Final = 120.0  # a loaded machine takes 5, an emulated one 40
_PAGE_BYTES: Final = 4096
_SAID_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to compile and attach.

    Attributes:
        directory: Folder of the BPF sources, with ``stub/`` in it.
        defines: Macros by name, given to the compiler as ``-D``.
        probes_off: Hooks (``hook``) and alternatives (``hook.alternative``) that must not be tried.
        main: File to compile, from *directory*.
    """

    directory: str
    defines: Mapping[str, int] = field(default_factory=dict)
    probes_off: tuple[str, ...] = ()
    main: str = "agent.c"
    hooks: tuple[Hook, ...] = PROBES
    wanted: Wanted = TABLE

    def to_json(self) -> dict[str, Any]:
        """Return the request as plain values for :mod:`json`."""
        return {
            "directory": self.directory,
            "defines": dict(self.defines),
            "probes_off": list(self.probes_off),
            "main": self.main,
            "hooks": [probes.hook_to_json(hook) for hook in self.hooks],
            "wanted": self.wanted.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LoadRequest:
        """Build the request that :meth:`to_json` described."""
        return cls(
            value["directory"],
            value["defines"],
            tuple(value["probes_off"]),
            value["main"],
            tuple(probes.hook_from_json(hook) for hook in value["hooks"]),
            Wanted.from_json(value["wanted"]),
        )


def size_defines(ring_bytes: int, max_flows: int) -> dict[str, int]:
    """Return the macros that size the maps: the ring (a power of two, in bytes) and the flows at one time."""
    return {"RING_PAGES": ring_bytes // _PAGE_BYTES, "MAX_FLOWS": max_flows}


@dataclass(frozen=True, slots=True)
class CompileCost:
    """What the child took: seconds of the clock and of CPU, bytes of memory at its peak."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


@dataclass(slots=True)
class Loaded:
    """What the child handed over. The descriptors belong to this object: closing it detaches everything.

    Attributes:
        maps: Descriptors by name of the map.
        programs: Descriptors by name: iterators to be read, the others for their statistics. A function that is
            attached to several places is there several times, the later ones as ``name@2`` and so on.
        links: Descriptors that hold the programs attached.
        report: One row for each hook, in the order of the table.
        macros: What the slices found in this kernel.
    """

    maps: dict[str, int]
    programs: dict[str, int]
    links: list[int]
    report: tuple[OutcomeRow, ...]
    macros: dict[str, int]
    cost: CompileCost

    def detach(self) -> None:
        """Detach the programs; maps and iterators can still be read."""
        for fd in self.links:
            os.close(fd)
        self.links.clear()

    def close(self) -> None:
        """Detach the programs and give up the maps; may be called again."""
        self.detach()
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)
        self.programs.clear()
        self.maps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(request: LoadRequest, timeout_s: float = _TIMEOUT_S) -> Loaded:
    """Compile and attach in a child, and return what holds.

    Raises:
        CannotRun: Nothing could be loaded at all; the text says why. Hooks that failed are no error: see ``report``.
        SettingError: ``probes_off`` names a hook that does not exist.
    """
    probes.check_switches(request.probes_off, request.hooks)
    started = time.monotonic()
    received = _Received()
    try:
        with _Child() as child:
            answer = _converse(child, request, received, started + timeout_s)
            usage = child.wait()
        cost = CompileCost(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
        return received.hand_out(answer, cost)
    finally:
        received.close()


def _converse(child: _Child, request: LoadRequest, received: _Received, deadline: float) -> dict[str, Any]:
    """Send the request and take what comes until the answer.

    Raises:
        CannotRun: There is none, or it says that nothing could be loaded.
    """
    try:
        child.channel.settimeout(_time_left_s(deadline))
        child.channel.send(json.dumps(request.to_json()).encode())
        answer = received.until_answer(child.channel, deadline)
    except TimeoutError:
        raise CannotRun("compiling the kernel programs took too long: given up") from None
    except ConnectionError:
        answer = None
    if answer is None:
        child.wait()
        raise CannotRun(f"the process that compiles the kernel programs {child.ending()}")
    if "error" in answer:
        raise CannotRun(answer["error"])
    return answer


def _time_left_s(deadline: float) -> float:
    """Seconds until *deadline*; never 0, which a socket would take for "do not wait at all"."""
    return max(deadline - time.monotonic(), 0.001)


class _Child:
    """The compile process: reaped, and ended if need be, when left. What it prints goes to a file in memory."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output = os.memfd_create("otel-ebpf-compiler", os.MFD_CLOEXEC)
        self._usage: resource.struct_rusage | None = None
        try:
            with theirs:
                self._process = self._start(theirs.fileno())
        except OSError as error:
            self._close()
            raise CannotRun(f"the compile process cannot be started: {error.strerror}: {sys.executable}") from None

    def _start(self, channel_fd: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", CHILD_MODULE, str(channel_fd)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(channel_fd,),
        )

    def _close(self) -> None:
        self.channel.close()
        os.close(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._usage is None:
            os.kill(self._process.pid, signal.SIGKILL)  # not Popen.kill(): that would reap it, and lose what it used
            self.wait()
        self._close()

    def wait(self) -> resource.struct_rusage:
        """Reap the child; return what it used."""
        if self._usage is None:
            _, status, self._usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._usage

    def ending(self) -> str:
        """Say how the child ended, and the last line it printed."""
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        size = os.fstat(self._output).st_size
        printed = os.pread(self._output, _SAID_BYTES, max(0, size - _SAID_BYTES)).decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(printed) if line.strip()), "")
        return f"{how}: {last}" if last else how


class _Received:
    """Descriptors on their way from the child: closed unless they are handed out."""

    def __init__(self) -> None:
        self._fds: list[tuple[str, str, int]] = []

    def until_answer(self, channel: socket.socket, deadline: float) -> dict[str, Any] | None:
        """Take messages up to the answer; None when the child ends without one.

        Raises:
            TimeoutError: It did not come in time.
        """
        while True:
            channel.settimeout(_time_left_s(deadline))
            raw, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, DESCRIPTORS_EACH, socket.MSG_CMSG_CLOEXEC)
            if not raw:
                return None
            message = json.loads(raw)
            if isinstance(message, dict):
                return message
            self._fds += [(kind, name, fd) for (kind, name), fd in zip(message, fds, strict=True)]

    def hand_out(self, answer: dict[str, Any], cost: CompileCost) -> Loaded:
        """Give the descriptors to a :class:`Loaded`."""
        fds, self._fds = self._fds, []
        return Loaded(
            {name: fd for kind, name, fd in fds if kind == "map"},
            _numbered([(name, fd) for kind, name, fd in fds if kind == "program"]),
            [fd for kind, _, fd in fds if kind == "link"],
            tuple(OutcomeRow.from_json(row) for row in answer["report"]),
            answer["macros"],
            cost,
        )

    def close(self) -> None:
        """Close what was not handed out."""
        for _, _, fd in self._fds:
            os.close(fd)
        self._fds.clear()


def _numbered(programs: list[tuple[str, int]]) -> dict[str, int]:
    """Make the names unique: ``name``, ``name@2``, ``name@3``."""
    times: Counter[str] = Counter()
    named = {}
    for name, fd in programs:
        times[name] += 1
        named[name if times[name] == 1 else f"{name}@{times[name]}"] = fd
    return named
