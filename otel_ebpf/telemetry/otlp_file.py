"""The file exporter: OTLP/JSON, one export request per line (OpenTelemetry Protocol File Exporter).

In: export requests. Out: lines of a file, or of standard output.
"""

from __future__ import annotations

import os
import stat
import sys

from otel_ebpf.errors import SettingError
from otel_ebpf.telemetry import otlp_json
from otel_ebpf.telemetry.batch import Request
from otel_ebpf.telemetry.worker import Result


class FileExporter:
    """Appends lines to a file; a line is there whole or not at all.

    Raises:
        SettingError: The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._owned = path != "-"
        try:
            self._fd = (
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if self._owned else sys.stdout.fileno()
            )
        except OSError as error:
            raise SettingError(f"OTEL_EBPF_OTLP_FILE={path!r} cannot be written: {error.strerror}") from None

    def export(self, request: Request) -> Result:
        """Write a request as one line."""
        line = otlp_json.line(request.signal, request.payload())
        try:
            self._write(line)
        except OSError as error:
            return Result(error=error.strerror or str(error))
        return Result()

    def _write(self, line: bytes) -> None:
        """Write all of it, or cut the file back to where it was: half a line would spoil the next one.

        Raises:
            OSError: The disk is full, the reader of a pipe has gone.
        """
        status = os.fstat(self._fd)
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(self._fd, status.st_size)
            raise

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._owned:
            os.close(self._fd)
            self._owned = False
