"""Flattens a C program: quoted includes are put in place, because BCC rewrites map accesses in the main file alone.

In: text. Out: text, with ``#line`` directives, so that the compiler names the real file and line. Each file is put in
once, at its first include, whatever ``#if`` stands around it. ``<angle>`` includes stay.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from otel_ebpf.errors import CannotRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INCLUDE: Final = re.compile(r'\s*#\s*include\s*"([^"\n]+)"')


class SourceError(CannotRun):
    """The program names a file that is not there."""


def flatten(read: Callable[[str], str | None], main: str) -> str:
    """Return the text of *main* with the files that it includes, directly or not.

    Includes are looked for beside the including file, then from the root that *read* knows.

    Args:
        read: Gives the text of a file by its path from the root, None when there is no such file.
        main: Path of the first file.

    Raises:
        SourceError: A file is missing.
    """
    text = read(main)
    if text is None:
        raise SourceError(f"{main}: no such file")
    return "".join(_lines(read, main, text, {main}))


def _lines(read: Callable[[str], str | None], path: str, text: str, seen: set[str]) -> Iterator[str]:
    yield f'#line 1 "{path}"\n'
    for number, line in enumerate(text.splitlines(), 1):
        match = _INCLUDE.match(line)
        if not match:
            yield line + "\n"
            continue
        name, inner = _find(read, path, match[1], number)
        if name in seen:
            yield "\n"  # the line numbers go on
            continue
        seen.add(name)
        yield from _lines(read, name, inner, seen)
        yield f'#line {number + 1} "{path}"\n'


def _find(read: Callable[[str], str | None], path: str, wanted: str, number: int) -> tuple[str, str]:
    for name in (posixpath.normpath(posixpath.join(posixpath.dirname(path), wanted)), posixpath.normpath(wanted)):
        text = read(name)
        if text is not None:
            return name, text
    raise SourceError(f"{path}:{number}: no such file: {wanted}")
