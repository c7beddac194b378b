"""Payload: what this kernel is, and that BCC compiles, loads and attaches a kprobe and a fentry probe on it."""

from __future__ import annotations

import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

from inside import report  # type: ignore[import-not-found]  # put beside the payload by the harness

_PROGRAM = """
BPF_ARRAY(calls, u64, 2);
static __always_inline void hit(int kind) { u64 *n = calls.lookup(&kind); if (n) __sync_fetch_and_add(n, 1); }
int by_kprobe(void *regs) { hit(0); return 0; }
int kfunc__tcp_sendmsg(void *arguments) { hit(1); return 0; }
"""
_MESSAGES = 23


def _talk() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        peer, _ = listener.accept()
        with peer:
            for _ in range(_MESSAGES):
                client.sendall(b"ping")
                peer.recv(4)


def _attach() -> Any:
    """The program on both kinds of probe, with the product's stub headers; BCC attaches "kfunc__" by itself."""
    os.environ["BCC_KERNEL_SOURCE"] = "/product/bpf/stub"
    from bcc import BPF  # noqa: PLC0415  # BCC reads its environment when it is loaded

    started = time.monotonic()
    bpf = BPF(text=_PROGRAM, cflags=["-DLINUX_VERSION_CODE=0x060100"])
    report(compile_and_fentry_s=time.monotonic() - started)
    bpf.attach_kprobe(event=b"tcp_sendmsg", fn_name=b"by_kprobe")
    return bpf


def main() -> None:
    """Reports the kernel's release, what it offers, and how often either probe saw the messages sent over loopback."""
    report(release=platform.release(), btf=Path("/sys/kernel/btf/vmlinux").exists())
    report(tracefs=Path("/sys/kernel/tracing/events").exists())
    bpf = _attach()
    _talk()
    calls = bpf["calls"]
    report(sent=_MESSAGES, kprobe=calls[0].value, fentry=calls[1].value)


if __name__ == "__main__":
    main()
