"""Loads and attaches programs. Only trying tells what works: what kernels say about their features is not reliable.

In: attachments of the probe table, compiled programs. Out: descriptors, or the kernel's answer.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_ebpf.kernel import bpf
from otel_ebpf.kernel.btf import Btf
from otel_ebpf.kernel.btf import Kind as BtfKind
from otel_ebpf.kernel.plan import Choice, Plan, Refused
from otel_ebpf.kernel.probes import Alternative, Attachment, Hook, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ENOTSUPP: Final = 524  # include/linux/errno.h: meant to stay inside the kernel, but bpf(2) lets it out

_RETURN_0: Final = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit

_PERF_EVENT_IOC_SET_BPF: Final = 0x40042408
_PERF_EVENT_IOC_ENABLE: Final = 0x2400
_PERF_FLAG_FD_CLOEXEC: Final = 8
_PERF_ATTR: Final = struct.Struct("<IIQQQQQIIQQ")  # struct perf_event_attr up to config2 (PERF_ATTR_SIZE_VER1)
_KPROBE_PMU: Final = Path("/sys/bus/event_source/devices/kprobe/type")

# What a tracing program attaches to, as BTF has it.
_TRACING: Final = {
    Kind.TP_BTF: (bpf.AttachType.TRACE_RAW_TP, "btf_trace_", BtfKind.TYPEDEF, "tracepoint"),
    Kind.FENTRY: (bpf.AttachType.TRACE_FENTRY, "", BtfKind.FUNC, "function"),
    Kind.FEXIT: (bpf.AttachType.TRACE_FEXIT, "", BtfKind.FUNC, "function"),
    Kind.ITER: (bpf.AttachType.TRACE_ITER, "bpf_iter_", BtfKind.FUNC, "iterator"),
}

_REQUIRED: Final = {
    "HAVE_TP_": "tracepoint ",
    "HAVE_FUNC_": "function ",
    "HAVE_ENUM_BPF_FUNC_": "helper bpf_",
    "HAVE_STRUCT_": "struct ",
    "HAVE_": "",
}


@dataclass(slots=True)
class Attached:
    """Descriptors of an alternative: programs with their names, and links (or perf events), which hold them attached.

    A function that is attached to several places is loaded for each, because a tracing program knows its place.
    """

    programs: list[tuple[str, int]] = field(default_factory=list)
    links: list[int] = field(default_factory=list)

    def undo(self) -> None:
        """Detach and unload everything."""
        for fd in (*self.links, *(fd for _, fd in self.programs)):
            os.close(fd)
        self.links.clear()
        self.programs.clear()


class Attacher:
    """Loads and attaches what the table names.

    Args:
        btf: Types of the running kernel.
        macros: What the slices defined; alternatives may require some of them.
        hooks: The table: the places of all alternatives are looked up at once.
        kernel_version: ``LINUX_VERSION_CODE``; kernels before 5.0 want to be told.
    """

    def __init__(self, btf: Btf, macros: Mapping[str, int], hooks: Iterable[Hook], kernel_version: int) -> None:
        places = [at for hook in hooks for one in hook.alternatives for at in one.attachments if at.kind in _TRACING]
        names = {_TRACING[place.kind][1] + place.target for place in places}
        self._ids = btf.find(names, (BtfKind.TYPEDEF, BtfKind.FUNC))
        self._macros = macros
        self._version = kernel_version

    def trial(self, alternative: Alternative) -> None:
        """Attach programs that do nothing to the places of *alternative*, and detach them at once.

        Raises:
            Refused: The kernel does not allow it.
        """
        missing = [macro for macro in alternative.requires if not self._macros.get(macro)]
        if missing:
            raise Refused("this kernel has no " + ", no ".join(map(_in_words, missing)))
        attached = Attached()
        try:
            for place in alternative.attachments:
                self._attach(place, self._load(place, _RETURN_0), attached)
        finally:
            attached.undo()

    def attach(self, plan: Plan, instructions: Callable[[str], bytes | None]) -> list[Attached] | None:
        """Load and attach all that *plan* has chosen.

        Returns:
            What is attached, in the plan's order; None when something was refused: then all is undone, and the plan
            knows the answers.
        """
        chosen = list(plan.chosen())
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # the verifier takes its time, and runs in whoever asks
            loading = [
                [pool.submit(self._load, place, instructions(place.program)) for place in alternative.attachments]
                for _, alternative in chosen
            ]
        done = [Attached() for _ in chosen]
        refused = False
        for (choice, alternative), futures, attached in zip(chosen, loading, done, strict=True):
            refused |= not self._complete(choice, alternative, [future.result for future in futures], attached)
        if not refused:
            return done
        for attached in done:
            attached.undo()
        return None

    def _complete(
        self, choice: Choice, alternative: Alternative, loaded: list[Callable[[], int]], attached: Attached
    ) -> bool:
        """Attach the loaded programs of one alternative; False when one was refused."""
        answers = []
        for place, result in zip(alternative.attachments, loaded, strict=True):
            try:
                self._attach(place, result(), attached)
            except Refused as answer:
                answers.append(str(answer))
        if answers:
            choice.refuse(answers[0])
        return not answers

    def _load(self, place: Attachment, code: bytes | None) -> int:
        """Load a program for its place; return its descriptor."""
        if code is None:
            raise Refused(f"{place.program} was not compiled: this kernel lacks what it needs")
        try:
            return bpf.load_program(self._program(place, code))
        except OSError as error:
            raise Refused(f"{place.kind.value} {place.target}: not loaded: {_answer(error)}") from None

    def _program(self, place: Attachment, code: bytes) -> bpf.Program:
        name = place.program
        if place.kind is Kind.RAW_TP:
            return bpf.Program(name, bpf.ProgramType.RAW_TRACEPOINT, code, kernel_version=self._version)
        if place.kind in (Kind.KPROBE, Kind.KRETPROBE):
            return bpf.Program(name, bpf.ProgramType.KPROBE, code, kernel_version=self._version)
        attach_type, prefix, btf_kind, noun = _TRACING[place.kind]
        btf_id = self._ids.get((prefix + place.target, btf_kind))
        if btf_id is None:
            raise Refused(f"this kernel has no {noun} {place.target}")
        return bpf.Program(name, bpf.ProgramType.TRACING, code, attach_type, btf_id, self._version)

    def _attach(self, place: Attachment, program: int, attached: Attached) -> None:
        """Attach a loaded program; it belongs to *attached* in any case."""
        attached.programs.append((place.program, program))
        try:
            attached.links.extend(_link(place, program))
        except OSError as error:
            raise Refused(f"{place.kind.value} {place.target}: not attached: {_answer(error)}") from None


def _link(place: Attachment, program: int) -> tuple[int, ...]:
    """Attach a loaded program; an iterator is attached by whoever reads it."""
    if place.kind is Kind.ITER:
        return ()
    if place.kind in (Kind.KPROBE, Kind.KRETPROBE):
        return (_open_kprobe(place, program),)
    return (bpf.open_raw_tracepoint(program, place.target if place.kind is Kind.RAW_TP else ""),)


def _open_kprobe(place: Attachment, program: int) -> int:
    """Open a kprobe as a perf event (4.17) and attach *program* to it; nothing stays behind in tracefs."""
    try:
        pmu = int(_KPROBE_PMU.read_text(encoding="ascii"))
    except OSError:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no kprobes") from None
    name = ctypes.create_string_buffer(place.target.encode())
    config = int(place.kind is Kind.KRETPROBE)  # format/retprobe: config:0
    raw = _PERF_ATTR.pack(pmu, _PERF_ATTR.size, config, 0, 0, 0, 0, 0, 0, ctypes.addressof(name), 0)
    event = bpf.syscall("perf_event_open", ctypes.create_string_buffer(raw, len(raw)), -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
    try:
        fcntl.ioctl(event, _PERF_EVENT_IOC_SET_BPF, program)
        fcntl.ioctl(event, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event


def _in_words(macro: str) -> str:
    """``HAVE_TP_x`` → ``tracepoint x``."""
    prefix = next((one for one in _REQUIRED if macro.startswith(one)), "")
    return _REQUIRED.get(prefix, "") + macro.removeprefix(prefix)


def _answer(error: OSError) -> str:
    """The kernel's answer: name of the errno, its text, and on further lines the verifier's last words."""
    text = error.strerror or ""
    if error.errno == _ENOTSUPP:
        return "ENOTSUPP, " + text.replace("Unknown error 524", "not supported by this kernel")
    return f"{errno.errorcode.get(error.errno or 0, 'error')}, {text}"
