"""Runs a Python script as the payload of another kernel, in QEMU without hardware help.

In: a script, a kernel version, files. Out: what the script reported, its exit code, the console.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tests.guest import image
from tests.guest.kernel import kernel as fetch_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CACHE: Final = image.REPOSITORY / "build" / "guest"
_REPORT: Final = "R> "
_BOOTED: Final = "B> "
_EXIT: Final = "X> "
_COMMAND_LINE: Final = "console=ttyS0 quiet loglevel=1 panic=-1 nokaslr mitigations=off rdinit=/init"
# cmpxchg16b in QEMU 7.2 makes some kernels panic; the translation cache must hold a compiler.
_MACHINE: Final = (
    "qemu-system-x86_64",
    *("-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,cx16=off", "-smp", "2", "-m", "3072"),
    *("-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
)


@dataclass(frozen=True, slots=True)
class GuestResult:
    """How a run ended. exit_code is None when the payload did not end by itself (panic, time-out)."""

    exit_code: int | None
    reports: tuple[dict[str, Any], ...]
    console: str
    build_s: float
    boot_s: float
    total_s: float

    def report(self, name: str) -> Any:
        """The value that the payload reported under a name; raises KeyError with the console's end when it did not."""
        for fields in self.reports:
            if name in fields:
                return fields[name]
        raise KeyError(f"the guest did not report {name!r}; its console ends with:\n{self.console[-4000:]}")


def run_in_guest(
    script: Path,
    *,
    kernel: str = "6.1",
    files: Mapping[str, Path | bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> GuestResult:
    """Boots the kernel, runs the script with the product importable, and returns after the machine has gone.

    files maps absolute paths in the guest to content. Raises KernelMissingError when the kernel cannot be downloaded.
    """
    started = time.monotonic()
    vmlinuz, base = fetch_kernel(kernel, CACHE), image.base(CACHE)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as scratch:
        overlay, initramfs = Path(scratch, "overlay"), Path(scratch, "initramfs")
        image.overlay(overlay, script, files or {}, environment or {})
        image.initramfs(initramfs, [base, overlay])
        built = time.monotonic()
        lines, boot_s = _run(vmlinuz, initramfs, built + timeout_s)
        return _result(lines, build_s=built - started, boot_s=boot_s, total_s=time.monotonic() - started)


def _run(vmlinuz: Path, initramfs: Path, deadline: float) -> tuple[list[str], float]:
    lines: list[str] = []
    started = time.monotonic()
    boot_s = 0.0
    command = [*_MACHINE, "-kernel", str(vmlinuz), "-initrd", str(initramfs), "-append", _COMMAND_LINE]
    with _machine(command) as console:
        while (line := _next(console, deadline)) is not None:
            lines.append(line)
            if line.startswith(_BOOTED):
                boot_s = time.monotonic() - started
    return lines, boot_s


@contextmanager
def _machine(command: list[str]) -> Iterator[queue.Queue[str | None]]:
    """The running machine, as the queue of its console's lines (None at its end); killed when the block is left."""
    console: queue.Queue[str | None] = queue.Queue()
    out = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT) as machine:
        assert machine.stdout is not None
        reader = threading.Thread(target=_read, args=(machine.stdout, console), daemon=True)
        reader.start()
        try:
            yield console
        finally:
            machine.kill()
            reader.join(timeout=10)


def _read(stream: IO[bytes], console: queue.Queue[str | None]) -> None:
    for line in stream:
        console.put(line.decode(errors="replace").rstrip())
    console.put(None)


def _next(console: queue.Queue[str | None], deadline: float) -> str | None:
    try:
        return console.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return None


def _result(lines: list[str], *, build_s: float, boot_s: float, total_s: float) -> GuestResult:
    exits = [int(line.removeprefix(_EXIT)) for line in lines if line.startswith(_EXIT)]
    return GuestResult(
        exit_code=exits[-1] if exits else None,
        reports=tuple(json.loads(line.removeprefix(_REPORT)) for line in lines if line.startswith(_REPORT)),
        console="\n".join(lines),
        build_s=build_s,
        boot_s=boot_s,
        total_s=total_s,
    )
