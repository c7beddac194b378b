"""The agent as its users run it: the command ``otel-ebpf`` in a process of its own, settings in its environment.

In: settings. Out: a running agent, and what it wrote to its OTLP file as rows.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.otlp import Telemetry
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CAPTURING: Final = re.compile(r"\bcapturing\b", re.IGNORECASE)
_READY_S: Final = 20
_STOP_S: Final = 20
_TICKS: Final = os.sysconf("SC_CLK_TCK")
EVERYTHING: Final = {
    "OTEL_METRICS_EXPORTER": "otlp_file",
    "OTEL_LOGS_EXPORTER": "otlp_file",
    "OTEL_TRACES_EXPORTER": "otlp_file",
    "OTEL_EBPF_EXCHANGE_LOGS": "all",
    "OTEL_EBPF_EXCHANGE_SPANS": "all",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
}


class Agent:
    """A running agent.

    Attributes:
        child: Its process.
        file: Its OTLP file.
    """

    def __init__(self, child: Child, file: Path) -> None:
        self.child = child
        self.file = file

    def telemetry(self) -> Telemetry:
        """What it has written so far."""
        return Telemetry.of_file(self.file)

    def stop(self) -> int:
        """End it in good order (SIGTERM), so that it writes what it still holds; return its exit code."""
        return self.child.stop(timeout_s=_STOP_S)

    def finished(self) -> Telemetry:
        """End it, and return everything it wrote; raises RuntimeError when its exit code is not 0."""
        code = self.stop()
        if code != 0:
            raise RuntimeError(f"the agent ended with {code}:\n{self.child.output()[-4000:]}")
        return self.telemetry()

    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds, user and system (proc(5): fields 14 and 15 of stat)."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Resident memory of its process now."""
        return self._status("VmRSS")

    def resident_peak_bytes(self) -> int:
        """The most resident memory that its process has had."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.child.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
        if not found:
            raise RuntimeError(f"no {name}: the agent has ended")
        return int(found[1]) * 1024


def agent_command() -> list[str | Path]:
    """The command ``otel-ebpf`` of the environment that runs this."""
    return [Path(sys.executable).with_name("otel-ebpf")]


@contextmanager
def running_agent(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    command: tuple[str, ...] = ("run",),
    arguments: tuple[str, ...] = (),
    show: bool = False,
) -> Iterator[Agent]:
    """The agent from when it captures on; *settings* go on top of :data:`EVERYTHING` (all signals to its file).

    *command* is ``("record", path)`` to record at the same time. With *show* its standard output goes where this
    process's does, and only its standard error to its log. Needs root. Raises
    ChildFailedError when it ends, or does not say that it is capturing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "out.jsonl"
    environment = {"OTEL_EBPF_OTLP_FILE": str(file), **EVERYTHING, **(settings or {})}
    whole = [*agent_command(), *command, *arguments]
    with Child(whole, log=folder / "agent.log", environment=environment, folder=folder, show=show) as child:
        child.wait_until(lambda: bool(_CAPTURING.search(child.output())), "capturing", _READY_S)
        agent = Agent(child, file)
        try:
            yield agent
        finally:
            agent.stop()
