"""Flattening C: one text for BCC, and errors that still name the real file and line."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from otel_ebpf.kernel.source import SourceError, flatten

if TYPE_CHECKING:
    from pathlib import Path


def flat(files: dict[str, str]) -> str:
    """Flatten ``main.c`` of *files*."""
    return flatten(files.get, "main.c")


def test_puts_quoted_includes_in_place() -> None:
    """The text of a quoted include stands where the include was; angle includes stay."""
    files = {"main.c": '#include <linux/types.h>\n#include "a.h"\nint b;\n', "a.h": "int a;\n"}
    assert flat(files) == (
        '#line 1 "main.c"\n#include <linux/types.h>\n#line 1 "a.h"\nint a;\n#line 3 "main.c"\nint b;\n'
    )


def test_includes_each_file_once() -> None:
    """A file included twice, or by itself, appears once, and line numbers go on."""
    files = {
        "main.c": '#include "a.h"\n#include "b.h"\n#include "a.h"\nint main;\n',
        "a.h": '#include "a.h"\nint a;\n',
        "b.h": ' #  include   "a.h"\nint b;\n',
    }
    assert flat(files) == (
        '#line 1 "main.c"\n#line 1 "a.h"\n\nint a;\n#line 2 "main.c"\n'
        '#line 1 "b.h"\n\nint b;\n#line 3 "main.c"\n\nint main;\n'
    )


def test_looks_beside_the_including_file_then_from_the_root() -> None:
    """An include is found in the folder of its file first, else from the root; both are the same file when they are."""
    files = {
        "main.c": '#include "include/a.h"\n',
        "include/a.h": '#include "b.h"\n#include "include/c.h"\n#include "../c.h"\n#include "./b.h"\n',
        "include/b.h": "int near;\n",
        "b.h": "int far;\n",
        "include/c.h": "int c;\n",
        "c.h": "int root_c;\n",
    }
    text = flat(files)
    assert [line for line in text.splitlines() if line.startswith("int")] == ["int near;", "int c;", "int root_c;"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "^main.c: no such file$"),
        ({"main.c": '\n#include "gone.h"\n'}, "^main.c:2: no such file: gone.h$"),
        ({"main.c": '#include "a/b.h"\n', "a/b.h": '#include "c.h"'}, "^a/b.h:1: no such file: c.h$"),
    ],
)
def test_a_missing_file_is_named_with_the_place_that_wants_it(files: dict[str, str], sentence: str) -> None:
    """The error says which file is missing and which line asks for it."""
    with pytest.raises(SourceError, match=sentence):
        flat(files)


def test_a_compiler_names_the_real_file_and_line(tmp_path: Path) -> None:
    """An error in an included file, and one behind the include, are told at their true places."""
    files = {"main.c": '#include "a.h"\nint x = wrong;\n', "a.h": "\n\nint y = false_too;\n"}
    (tmp_path / "flat.c").write_text(flat(files))
    compiler = shutil.which("cc")
    assert compiler
    result = subprocess.run([compiler, "-c", "flat.c"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "main.c:2:9: error:" in result.stderr
    assert "a.h:3:9: error:" in result.stderr
