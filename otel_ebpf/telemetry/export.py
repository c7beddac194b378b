"""Exporters: from the settings to the workers that deliver.

In: settings. Out: one worker per destination; signals with the same destination share it.
What is not used is not loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from otel_ebpf.config import Settings
from otel_ebpf.errors import AgentError, SettingError
from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.worker import Exporter, InlineWorker, ThreadWorker, Worker

SIGNALS: Final = (METRICS, LOGS, SPANS)


def make_workers(settings: Settings, ledger: Ledger, *, inline: bool = False) -> dict[str, Worker]:
    """Return the worker of each signal that is exported.

    Args:
        settings: Which exporters, endpoints and protocols; the SDK reads headers, TLS, compression and timeouts itself.
        ledger: Where the workers write down what became of everything.
        inline: Export in the caller's thread: replay, whose output must not depend on timing.

    Raises:
        SettingError: The file of ``otlp_file`` cannot be written, or the SDK refuses an ``OTEL_EXPORTER_OTLP_*``.
    """
    destinations: dict[str, list[str]] = {}
    for signal in SIGNALS:
        name = _destination(settings, signal)
        if name != "none":
            destinations.setdefault(name, []).append(signal)
    workers: dict[str, Worker] = {}
    for name, signals in destinations.items():
        exporter = _made(name, settings, signals)
        worker = InlineWorker(name, exporter, ledger) if inline else ThreadWorker(name, exporter, ledger)
        workers |= dict.fromkeys(signals, worker)
    return workers


def _made(name: str, settings: Settings, signals: list[str]) -> Exporter:
    try:
        return _EXPORTERS[name](settings, signals)
    except AgentError:
        raise
    except Exception as error:  # the SDK has no error of its own for a variable that it cannot read
        raise SettingError(f"OTEL_EXPORTER_OTLP_*: {error}") from error


def _destination(settings: Settings, signal: str) -> str:
    name = settings.exporter(signal)
    return f"OTLP {settings.protocol(signal)}" if name == "otlp" else name


def _endpoints(settings: Settings, signals: list[str]) -> dict[str, str]:
    return {signal: settings.endpoint(signal) for signal in signals}


def _quiet_sdk() -> None:
    """The SDK logs every retry; the worker says it once when a receiver fails and once when it works again."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)


def _grpc(settings: Settings, signals: list[str]) -> Exporter:
    from otel_ebpf.telemetry.otlp_grpc import GrpcExporter  # noqa: PLC0415 - 20 MB that only gRPC needs

    _quiet_sdk()
    return GrpcExporter(_endpoints(settings, signals))


def _http(settings: Settings, signals: list[str]) -> Exporter:
    from otel_ebpf.telemetry.otlp_http import HttpExporter  # noqa: PLC0415 - 10 MB that only HTTP needs

    _quiet_sdk()
    return HttpExporter(_endpoints(settings, signals))


def _file(settings: Settings, _: list[str]) -> Exporter:
    from otel_ebpf.telemetry.otlp_file import FileExporter  # noqa: PLC0415 - protobuf is only needed here

    return FileExporter(settings.otlp_file)


def _console(_: Settings, __: list[str]) -> Exporter:
    from otel_ebpf.telemetry.console import ConsoleExporter  # noqa: PLC0415 - rich is only needed here

    return ConsoleExporter()


_EXPORTERS: Final[dict[str, Callable[[Settings, list[str]], Exporter]]] = {
    "OTLP grpc": _grpc,
    "OTLP http/protobuf": _http,
    "otlp_file": _file,
    "console": _console,
}
