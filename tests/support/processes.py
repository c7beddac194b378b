"""Child processes that are always ended: with their block, and with the process that started them.

In: a command, a folder for its output. Out: a running child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from tests.support.network import Namespace

_LISTEN_STATE: Final = "0A"  # TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp prints it
_POLL_S: Final = 0.02


class ChildFailedError(Exception):
    """A child did not start, did not become ready, or did not end in time; its output is in the message."""


class Child:
    """One process in a group of its own, its output in a file; with *show* its standard output stays on ours.

    The kernel ends it (SIGTERM) when the thread that started it goes away: start children from the main thread.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        namespace: Namespace | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        show: bool = False,
    ) -> None:
        self.log = log
        full = ["setpriv", "--pdeathsig", "TERM", "--", *map(str, command)]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                namespace.command(full) if namespace else full,
                stdin=subprocess.DEVNULL,
                stdout=None if show else out,
                stderr=out,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id; the same before and after the command is executed."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def output(self) -> str:
        """What it has written so far, both streams."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """The exit code; raises ChildFailedError when it does not end in time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailedError(self._say(f"still runs after {timeout_s} s")) from None

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
        """Return when *ready* says so; raises ChildFailedError when the child ends before, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise ChildFailedError(self._say(f"ended with {self._process.returncode} before {what}"))
            if time.monotonic() > deadline:
                raise ChildFailedError(self._say(f"not {what} after {timeout_s} s"))
            time.sleep(_POLL_S)

    def wait_listening(self, port: int, timeout_s: float = 10) -> None:
        """Return when its network namespace has a listener on the port; no connection is made that would be traffic."""
        self.wait_until(lambda: port in _listening(self.pid), f"listening on {port}", timeout_s)

    def stop(self, timeout_s: float = 5) -> int:
        """End the whole group: SIGTERM, then SIGKILL; return the exit code."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self._signal_group(signal.SIGKILL)
        return self._process.wait(timeout_s)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def _say(self, what: str) -> str:
        return f"{self._process.args!r} {what}; its output ends with:\n{self.output()[-4000:]}"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listening(pid: int) -> set[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        columns = (row.split() for row in rows)
        found |= {int(column[1].rsplit(":", 1)[1], 16) for column in columns if column[3] == _LISTEN_STATE}
    return found
