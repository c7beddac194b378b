"""Writes the archive format of an initramfs: "newc" cpio (the kernel's driver-api/early-userspace/buffer-format.rst).

In: paths and bytes. Out: one archive in a file. Archives may be concatenated: big base, small overlay.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

_ALIGN = 4
_CONSOLE = (5, 1)  # major and minor number of /dev/console


class CpioWriter:
    """One archive being written. Missing parents are made on the way; a path that was added before is left alone."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 1
        self._seen: set[PurePosixPath] = {PurePosixPath("/")}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._entry("TRAILER!!!", mode=0, data=b"")

    def directory(self, path: PurePosixPath) -> None:
        """A folder, and the folders above it."""
        if path in self._seen:
            return
        self._seen.add(path)
        self.directory(path.parent)
        self._entry(str(path), mode=stat.S_IFDIR | 0o755, data=b"")

    def data(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644, mtime: int = 0) -> None:
        """A regular file with the given bytes; mtime in seconds since 1970."""
        if path in self._seen:
            return
        self.directory(path.parent)
        self._seen.add(path)
        self._entry(str(path), mode=stat.S_IFREG | mode, data=content, mtime=mtime)

    def file(self, path: PurePosixPath, source: Path) -> None:
        """A copy of a file of this machine with its mode and time (Python caches compare the time of their source)."""
        status = source.stat()
        self.data(path, source.read_bytes(), mode=stat.S_IMODE(status.st_mode), mtime=int(status.st_mtime))

    def link(self, path: PurePosixPath, target: str) -> None:
        """A symbolic link."""
        if path in self._seen:
            return
        self.directory(path.parent)
        self._seen.add(path)
        self._entry(str(path), mode=stat.S_IFLNK | 0o777, data=os.fsencode(target))

    def console(self) -> None:
        """The device node that the kernel opens as the first process's standard streams."""
        path = PurePosixPath("/dev/console")
        self.directory(path.parent)
        self._seen.add(path)
        self._entry(str(path), mode=stat.S_IFCHR | 0o600, data=b"", device=_CONSOLE)

    def _entry(self, name: str, *, mode: int, data: bytes, mtime: int = 0, device: tuple[int, int] = (0, 0)) -> None:
        encoded = os.fsencode(name.lstrip("/")) + b"\0"
        fields = (self._inode, mode, 0, 0, 1, mtime, len(data), 0, 0, *device, len(encoded), 0)
        self._inode += 1
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._out.write(_padded(header) + _padded(data))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
