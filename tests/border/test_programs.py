"""The border: the probe table and the C side name the same programs."""

from __future__ import annotations

import re
from pathlib import Path

from otel_ebpf.kernel.probes import PROBES
from otel_ebpf.kernel_ledger import ROWS

_BPF = Path(__file__).resolve().parents[2] / "bpf"


def _text(pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(_BPF.glob(pattern)))


def test_every_program_of_the_table_is_in_c_and_the_other_way_round() -> None:
    """No row names a program that does not exist, and no program is attached by nobody."""
    written = set(re.findall(r"^int (on_\w+)\(", _text("*.c"), re.MULTILINE))
    named = {at.program for hook in PROBES for one in hook.alternatives for at in one.attachments}
    assert written == named


def test_every_counter_is_counted_and_told() -> None:
    """Each COUNT_* is raised by some program and has a row in the ledger."""
    header = (_BPF / "include" / "records.h").read_text()
    declared = set(re.findall(r"#define (COUNT_(?!MAX)\w+)", header))
    everything = _text("*.c") + _text("include/*.h").replace(header, "")
    raised = set(re.findall(r"count(?:_more)?\((COUNT_\w+)", everything))
    assert declared == raised == {row.counter for row in ROWS}


def test_every_file_is_in_the_table_of_contents() -> None:
    """agent.c includes every source file and every header."""
    contents = (_BPF / "agent.c").read_text()
    files = [path for path in (*_BPF.glob("*.c"), *_BPF.glob("include/*.h")) if path.name != "agent.c"]
    assert [path.name for path in files if f'"{path.relative_to(_BPF)}"' not in contents] == []
