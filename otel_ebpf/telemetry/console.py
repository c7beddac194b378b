"""The console exporter: what a person reads at three in the morning.

In: export requests. Out: one line per exchange, tables of what happened since the last ones.
Colours only on a terminal.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Any, Final

from rich.console import Console
from rich.text import Text

from otel_ebpf.telemetry import names, otlp_json
from otel_ebpf.telemetry.batch import LOGS, METRICS, Request
from otel_ebpf.telemetry.console_tables import tables
from otel_ebpf.telemetry.console_text import attributes_of, duration, plain, service, size
from otel_ebpf.telemetry.shape import ERROR, WARN
from otel_ebpf.telemetry.worker import Result

PIPE_COLUMNS: Final = 160
"""Width of tables that go to a file or a pipe: nothing wraps there."""

_KINDS: Final = {2: "server", 3: "client"}


class _Console(Console):
    """rich ends the process when the reader of a pipe has gone; an agent goes on, and counts the loss."""

    def on_broken_pipe(self) -> None:
        """Say so to the caller.

        Raises:
            BrokenPipeError: Always.
        """
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class ConsoleExporter:
    """Writes text to standard output, or to *file*."""

    def __init__(self, file: IO[str] | None = None) -> None:
        target = file or sys.stdout
        columns = None if target.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
        self._console = _Console(file=target, highlight=False, markup=False, emoji=False, width=columns)

    def export(self, request: Request) -> Result:
        """Print a request."""
        message: Any = otlp_json.parse(request.signal, request.payload())
        try:
            if request.signal == METRICS:
                for part in tables(message):
                    self._console.print(part)
            else:
                for line in exchange_lines(message) if request.signal == LOGS else span_lines(message):
                    self._print(line)
        except OSError as error:  # the terminal or the reader of the pipe has gone
            return Result(error=error.strerror or str(error))
        return Result()

    def _print(self, line: Text) -> None:
        """Print a line, cut where the terminal ends, whole where there is none."""
        if self._console.is_terminal:
            line.truncate(self._console.width, overflow="ellipsis")
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Nothing to let go of: standard output belongs to the process."""


def exchange_lines(message: Any) -> Iterable[Text]:
    """Return a line for each log record of an ``ExportLogsServiceRequest``."""
    for resource in message.resource_logs:
        name = service(resource.resource)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield _exchange_line(name, record)


def _exchange_line(name: str, record: Any) -> Text:
    found = attributes_of(record.attributes)
    line = Text()
    line.append(clock(record.time_unix_nano), "dim")
    line.append(f" {name} ", "bold")
    line.append("→ " if found.get(names.ROLE) == "client" else "← ", "dim")
    line.append(_peer(found))
    line.append(f" {_request(found)} ", "cyan")
    status = found.get(names.HTTP_RESPONSE_STATUS_CODE, found.get(names.ERROR_TYPE, "-"))
    line.append(str(status), {ERROR: "bold red", WARN: "yellow"}.get(record.severity_number, "green"))
    line.append(f" {size(found.get(names.HTTP_RESPONSE_BODY_SIZE))} {_took(found)}")
    line.append(_remarks(found), "yellow")
    return line


def _peer(found: dict[str, Any]) -> str:
    address = plain(str(found.get(names.SERVICE_PEER_NAME) or found.get(names.NETWORK_PEER_ADDRESS, "?")))
    shown = f"[{address}]" if ":" in address else address
    port = found.get(names.NETWORK_PEER_PORT)
    return f"{shown}:{port}" if port and found.get(names.ROLE) == "client" else shown


def _request(found: dict[str, Any]) -> str:
    method = found.get(names.HTTP_REQUEST_METHOD_ORIGINAL) or found.get(names.HTTP_REQUEST_METHOD, "-")
    query = found.get(names.URL_QUERY)
    return plain(f"{method} {found.get(names.URL_PATH, '')}{'?' + query if query is not None else ''}")


def _took(found: dict[str, Any]) -> str:
    phases = [found.get(key) for key in (names.PHASE_REQUEST, names.PHASE_WAIT, names.PHASE_RESPONSE)]
    total = sum(phase for phase in phases if phase is not None)
    wait = phases[1]
    return duration(total) + ("" if wait is None else f" (wait {duration(wait)})")


def _remarks(found: dict[str, Any]) -> str:
    remarks = [f"{found[names.TCP_RETRANSMITS]} retransmits"] if found.get(names.TCP_RETRANSMITS) else []
    if names.PHASE_CONNECT in found:
        remarks.append(f"connect {duration(found[names.PHASE_CONNECT])}")
    if names.HTTP_RESPONSE_STATUS_CODE in found and not str(found.get(names.ERROR_TYPE, "0")).isdigit():
        remarks.append(str(found[names.ERROR_TYPE]))
    remarks += [f"{name} not seen" for name in found.get(names.MISSING, ())]
    return "".join(f" · {remark}" for remark in remarks)


def span_lines(message: Any) -> Iterable[Text]:
    """Return a line for each span of an ``ExportTraceServiceRequest``."""
    for resource in message.resource_spans:
        name = service(resource.resource)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span_line(name, span)


def _span_line(name: str, span: Any) -> Text:
    line = Text()
    line.append(clock(span.start_time_unix_nano), "dim")
    line.append(f" {name} ", "bold")
    line.append(f"{_KINDS.get(span.kind, 'span')} span ", "dim")
    line.append(plain(span.name), "red" if span.status.code == 2 else "cyan")
    line.append(f" {duration((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9)} ")
    parent = f" parent {span.parent_span_id.hex()}" if span.parent_span_id else ""
    line.append(f"trace {span.trace_id.hex()}{parent}", "dim")
    return line


def clock(unix_ns: int) -> str:
    """Return the local time of day to the millisecond."""
    moment = datetime.fromtimestamp(unix_ns // 10**9, UTC).astimezone()
    return f"{moment:%H:%M:%S}.{unix_ns // 10**6 % 1000:03d}"
