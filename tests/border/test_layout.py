"""The border: ``bpf/include/records.h`` and its Python side describe the same bytes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from otel_ebpf import records
from otel_ebpf.kernel import layout
from otel_ebpf.kernel.layout import Record
from otel_ebpf.telemetry import names

HEADER: Final = Path(__file__).parents[2] / "bpf/include/records.h"
# A trailing array whose used part differs from record to record is no part of the fixed layout.
OPEN_ENDED: Final = {"turn": "data", "segment": "data"}


def members(struct_name: str) -> list[str]:
    """Return the members of a C struct in their order, as the header writes them."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    body = re.search(rf"struct {struct_name} \{{(.*?)\n\}};", text, re.DOTALL)
    assert body is not None, struct_name
    return re.findall(r"(\w+)(?:\[\w+\])?;", body[1])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Compile the header, padding being an error, and measure it: ``struct.member`` → offset, with ``.size`` → size."""
    folder = tmp_path_factory.mktemp("border")
    rows = []
    for record in layout.TABLE:
        rows.append(f'printf("{record.name} %zu\\n", sizeof(struct {record.name}));')
        for name in members(record.name):
            rows.append(f'printf("{record.name}.{name} %zu\\n", offsetof(struct {record.name}, {name}));')
            rows.append(f'printf("{record.name}.{name}.size %zu\\n", sizeof(((struct {record.name} *)0)->{name}));')
    source = f'#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
    (folder / "border.c").write_text(source + "int main(void)\n{\n" + "\n".join(rows) + "\nreturn 0;\n}\n")
    command = ["cc", "-Wall", "-Wextra", "-Wpadded", "-Werror", "-o", "border", "border.c"]
    subprocess.run(command, cwd=folder, check=True)
    said = subprocess.run([folder / "border"], capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in (line.split() for line in said.splitlines())}


@pytest.mark.parametrize("record", layout.TABLE, ids=lambda record: record.name)
def test_every_member_stands_where_python_reads_it(record: Record, measured: dict[str, int]) -> None:
    """Names, order, offsets and sizes agree, and nothing is padded behind anybody's back."""
    fixed = [name for name in members(record.name) if name != OPEN_ENDED.get(record.name)]
    assert [name for name, _ in record.fields] == fixed
    offset = 0
    for name, code in record.fields:
        size = Record("", ((name, code),)).compiled().size
        assert (offset, size) == (measured[f"{record.name}.{name}"], measured[f"{record.name}.{name}.size"]), name
        offset += size
    whole = measured[record.name] - measured.get(f"{record.name}.{OPEN_ENDED.get(record.name)}.size", 0)
    assert (offset, record.compiled().size) == (whole, whole)


def test_every_struct_that_crosses_has_a_row() -> None:
    """A struct added to the header cannot be forgotten on the other side."""
    text = HEADER.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^struct (\w+) \{", text, re.MULTILINE)) == sorted(record.name for record in layout.TABLE)


def test_inline_bytes_fill_the_turn(measured: dict[str, int]) -> None:
    """Both parts of a turn have their full room in its data, and offsets in it fit their fields."""
    constants = layout.constants()
    assert constants["REQUEST_INLINE_BYTES"] + constants["RESPONSE_INLINE_BYTES"] == constants["TURN_DATA_BYTES"]
    assert measured["turn.data.size"] == constants["TURN_DATA_BYTES"] < 1 << 16
    assert measured["segment.data.size"] == constants["SEGMENT_DATA_BYTES"]
    assert measured["turn.tail.size"] == constants["TAIL_BYTES"]


def test_numbers_that_python_names_are_the_headers() -> None:
    """Roles are the same on both sides, and retransmit types have a name each."""
    constants = layout.constants()
    roles = {name: constants[name] for name in constants if name.startswith("ROLE_")}
    assert roles == {
        "ROLE_UNKNOWN": records.ROLE_UNKNOWN,
        "ROLE_CLIENT": records.ROLE_CLIENT,
        "ROLE_SERVER": records.ROLE_SERVER,
    }
    types = {name.removeprefix("RETRANSMIT_").lower(): number for name, number in constants.items() if _is_type(name)}
    assert types == {name: number for number, name in enumerate(names.RETRANSMIT_TYPES)}
    assert constants["RETRANSMIT_TYPES"] == len(names.RETRANSMIT_TYPES)


def _is_type(name: str) -> bool:
    return name.startswith("RETRANSMIT_") and name != "RETRANSMIT_TYPES"


@pytest.mark.parametrize("prefix", ["TURN_", "FLOW_"])
def test_flags_are_bits_of_their_own(prefix: str) -> None:
    """No two flags of one record share a bit."""
    constants = layout.constants()
    flags = [value for name, value in constants.items() if name.startswith(prefix) and name != "TURN_DATA_BYTES"]
    assert all(value & (value - 1) == 0 for value in flags)
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize("prefix", ["RECORD_", "PROTOCOL_", "DIRECTION_", "COUNT_"])
def test_numbers_of_one_kind_differ(prefix: str) -> None:
    """Kinds, protocols, directions and counters are told apart by their numbers."""
    found = [value for name, value in layout.constants().items() if name.startswith(prefix)]
    assert len(found) >= 2
    assert len(set(found)) == len(found)
