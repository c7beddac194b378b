"""Checks struct slices with a C compiler: what it lays out has to be what BTF says."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from otel_ebpf.kernel.layout import bpf_directory

if TYPE_CHECKING:
    from pathlib import Path

    from otel_ebpf.kernel.slice_table import Wanted
    from otel_ebpf.kernel.slices import Slices

_KERNEL_READ = "#define bpf_probe_read_kernel(to, size, from) __builtin_memcpy(to, from, size)\n"


def run_c(slices: Slices, program: str, folder: Path) -> str:
    """Compile *program* behind the slices, with every warning as an error, run it, and return what it printed."""
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed"
    (folder / "slices.c").write_text(_KERNEL_READ + slices.text + program)
    stub = str(bpf_directory().joinpath("stub", "include"))
    command = [compiler, "-std=gnu11", "-Wall", "-Werror", "-isystem", stub, "-o", "slices", "slices.c"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return subprocess.run([str(folder / "slices")], capture_output=True, text=True, check=True).stdout


def layout_assertions(wanted: Wanted, slices: Slices) -> str:
    """C that compiles only if each slice is as large as its struct, and each member stands where the kernel has it."""
    lines = []
    for struct, fields in wanted.structs.items():
        if not slices.macros[f"HAVE_STRUCT_{struct}"]:
            continue
        lines.append(f'_Static_assert(sizeof(struct {struct}) == SIZEOF_{struct}, "size of {struct}");')
        for specification in fields:
            path = specification.partition("=")[0]
            macro = f"{struct}__{path.replace('.', '__')}"
            if slices.macros[f"HAVE_{macro}"] and f"BITS_{macro}(" not in slices.text:
                lines.append(f'_Static_assert(__builtin_offsetof(struct {struct}, {path}) == OFF_{macro}, "{macro}");')
    return "\n".join(lines) + "\n"
