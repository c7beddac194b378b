"""A real OpenTelemetry Collector: OTLP by gRPC and HTTP in, a file out.

In: a folder. Out: a running Collector, and what arrived there as rows.
"""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.otlp import Telemetry
from tests.support.processes import Child, free_port

if TYPE_CHECKING:
    from types import TracebackType

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_READY_S: Final = 30


def collector_binary() -> Path:
    """The Collector, built from ``tests/collector`` when it is not there yet (a minute or two, once)."""
    subprocess.run([_REPOSITORY / "scripts" / "build-collector"], check=True, timeout=1800)
    return _REPOSITORY / "build" / "otelcol"


class Collector:
    """One Collector on free ports of its own, which it keeps when it is stopped and started again.

    With *discard* it throws away what it gets instead of writing it to its file.
    """

    def __init__(self, binary: Path, folder: Path, *, discard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._binary = binary
        self._folder = folder
        self._exporter = "nop" if discard else "file"
        self._child: Child | None = None
        self._health = free_port()
        self.grpc_port = free_port()
        self.http_port = free_port()
        self._starts = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def grpc_endpoint(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT`` with the protocol ``grpc``."""
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT`` with the protocol ``http/protobuf``."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        """Its process; raises RuntimeError when it is stopped."""
        return self._running().pid

    def start(self) -> None:
        """Start, and return when it takes data."""
        config = self._folder / "config.yaml"
        config.write_text(self._config(), encoding="utf-8")
        self._starts += 1
        log = self._folder / f"collector-{self._starts}.log"
        self._child = Child([self._binary, "--config", config], log=log, folder=self._folder)
        self._child.wait_until(self._healthy, "healthy", _READY_S)

    def stop(self) -> None:
        """End it in good order: what it has taken is in the file afterwards."""
        if self._child:
            self._child.stop(timeout_s=10)
            self._child = None

    def kill(self) -> None:
        """End it as a crash would."""
        self._running().send_signal(signal.SIGKILL)
        self._running().wait(10)
        self._child = None

    def pause(self) -> None:
        """Make it as slow as can be: its ports take connections, nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        self._running().send_signal(signal.SIGCONT)

    def telemetry(self) -> Telemetry:
        """What has arrived so far, over all its starts; at most 100 ms old."""
        return Telemetry.of_file(self._folder / "out.jsonl")

    def output(self) -> str:
        """Its own log since its last start."""
        return self._running().output()

    def _running(self) -> Child:
        if not self._child:
            raise RuntimeError("the Collector is stopped")
        return self._child

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _config(self) -> str:
        pipeline = f"{{ receivers: [otlp], exporters: [{self._exporter}] }}"
        return f"""\
receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: "127.0.0.1:{self.grpc_port}", max_recv_msg_size_mib: 64 }}
      http: {{ endpoint: "127.0.0.1:{self.http_port}" }}
exporters:
  file: {{ path: "{self._folder}/out.jsonl", append: true, flush_interval: 100ms }}
  nop:
extensions:
  health_check: {{ endpoint: "127.0.0.1:{self._health}" }}
service:
  extensions: [health_check]
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    metrics: {pipeline}
    logs: {pipeline}
    traces: {pipeline}
"""
