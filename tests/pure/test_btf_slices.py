"""Struct slices: the text that stands before the program, checked by a C compiler."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, BtfError, Kind
from otel_ebpf.kernel.slice_table import TABLE, Wanted
from otel_ebpf.kernel.slices import Slices, render
from tests.support.btf_blob import BtfBlob
from tests.support.slices import layout_assertions, run_c

if TYPE_CHECKING:
    from pathlib import Path


def kernel() -> Btf:
    """A small kernel: nested and anonymous parts, a union, bit fields, an odd offset, a tracepoint, a function."""
    blob = BtfBlob()
    number = blob.integer("unsigned int", 4)
    short = blob.integer("unsigned short", 2)
    byte = blob.integer("char", 1, signed=True)
    long = blob.integer("long", 8, signed=True)
    boolean = blob.integer("_Bool", 1, boolean=True)
    pair = blob.struct("", 8, ("low", number, 0), ("high", number, 32))
    choice = blob.struct("", 8, ("word", long, 0), ("", pair, 0), union=True)
    common = blob.struct(
        "common", 24, ("skip", long, 0), ("", choice, 64), ("family", short, 128), ("tiny", boolean, 144)
    )
    opaque = blob.struct("opaque", 80, ("x", long, 0))
    colour = blob.enum("colour", ("RED", 0), ("BLUE", -2), signed=True)
    void_pointer = blob.pointer(0)
    function_pointer = blob.pointer(blob.prototype(("x", number)))
    blob.struct(
        "sock",
        256,
        ("common", common, 0),
        ("name", blob.array(byte, 16), 192),
        ("old_state", colour, 320),
        ("bits", number, 352, 5),
        ("more", number, 357, 9),
        ("peer", blob.pointer(blob.next_id + 2), 384),
        ("opaque", opaque, 448),
        ("data", void_pointer, 1088),
        ("call", function_pointer, 1152),
        ("list", blob.array(void_pointer, 2), 1216),
        ("odd", number, 1352),
    )
    context = blob.pointer(0)
    blob.add(Kind.TYPEDEF, "btf_trace_sent", blob.pointer(blob.prototype(("", context), ("", context), ("", number))))
    blob.function("__traceiter_sent", ("__data", context), ("sk", context), ("skb__nullable", number))
    blob.function("send", ("sk", context), ("size", number))
    blob.enum("bpf_func_id", ("BPF_FUNC_loop", 181))
    return Btf(blob.bytes())


WANTED = Wanted(
    structs={
        "sock": (
            "common.low",
            "common.word",
            "common.family",
            "common.tiny",
            "name",
            "state=new_state|old_state",
            "bits",
            "more",
            "peer",
            "opaque",
            "data",
            "call",
            "list",
            "odd",
            "family=common.family",
            "absent",
            "common.absent",
        ),
        "nothing": ("field",),
    },
    enums={"colour": (), "absent_enum": ("GREEN",)},
    helpers=("loop", "magic"),
    tracepoints=("sent", "lost"),
    functions=("send", "receive"),
)


@pytest.fixture
def slices() -> Slices:
    """What is wanted of the small kernel."""
    return render(kernel(), WANTED)


def test_lays_out_every_member_where_the_kernel_has_it(slices: Slices, tmp_path: Path) -> None:
    """A C compiler finds each slice as large as its struct and each member at its true offset."""
    run_c(slices, layout_assertions(WANTED, slices) + "int main(void) { return 0; }", tmp_path)


def test_members_have_the_kernels_types(slices: Slices, tmp_path: Path) -> None:
    """A program reads the right values: of members nested, renamed, in a union, in a bit field, unaligned."""
    program = r"""
int printf(const char *, ...);
int main(void)
{
	static struct sock sock;
	unsigned char *raw = (unsigned char *)&sock;
	for (int i = 0; i < SIZEOF_sock; i++)
		raw[i] = i;
	*(unsigned int *)(raw + 44) = 21 | 300 << 5 | 1u << 31;
	*(int *)(raw + 40) = BLUE;
	*(struct sock **)(raw + 48) = &sock;
	raw[18] = 1;
	printf("%x %llx %x %d\n", sock.common.low, sock.common.word, sock.common.family, sock.common.tiny);
	printf("%d %d %d %d\n", BITS_sock__bits(&sock), BF_sock__bits(&sock), BITS_sock__more(&sock), BF_sock__more(&sock));
	printf("%d %d %x %d\n", sock.state, sock.name[3], sock.odd, sock.peer->name[1]);
	return 0;
}
"""
    assert run_c(slices, program, tmp_path) == "b0a0908 f0e0d0c0b0a0908 1110 1\n21 21 300 300\n-2 27 acabaaa9 25\n"


def test_says_what_the_kernel_has(slices: Slices) -> None:
    """Every macro with a number, exactly: what is missing has a HAVE_ of 0 and nothing else."""
    assert slices.macros == {
        "HAVE_STRUCT_sock": 1,
        "SIZEOF_sock": 256,
        "HAVE_sock__common__low": 1,
        "OFF_sock__common__low": 8,
        "HAVE_sock__common__word": 1,
        "OFF_sock__common__word": 8,
        "HAVE_sock__common__family": 1,
        "OFF_sock__common__family": 16,
        "HAVE_sock__common__tiny": 1,
        "OFF_sock__common__tiny": 18,
        "HAVE_sock__name": 1,
        "OFF_sock__name": 24,
        "HAVE_sock__state": 1,
        "OFF_sock__state": 40,
        "HAVE_sock__bits": 1,
        "OFF_sock__bits": 44,
        "HAVE_sock__more": 1,
        "OFF_sock__more": 44,
        "HAVE_sock__peer": 1,
        "OFF_sock__peer": 48,
        "HAVE_sock__opaque": 1,
        "OFF_sock__opaque": 56,
        "HAVE_sock__data": 1,
        "OFF_sock__data": 136,
        "HAVE_sock__call": 1,
        "OFF_sock__call": 144,
        "HAVE_sock__list": 1,
        "OFF_sock__list": 152,
        "HAVE_sock__odd": 1,
        "OFF_sock__odd": 169,
        "HAVE_sock__family": 1,
        "OFF_sock__family": 16,
        "HAVE_sock__absent": 0,
        "HAVE_sock__common__absent": 0,
        "HAVE_STRUCT_nothing": 0,
        "HAVE_nothing__field": 0,
        "HAVE_ENUM_RED": 1,
        "RED": 0,
        "HAVE_ENUM_BLUE": 1,
        "BLUE": -2,
        "HAVE_ENUM_GREEN": 0,
        "HAVE_ENUM_BPF_FUNC_loop": 1,
        "HAVE_ENUM_BPF_FUNC_magic": 0,
        "HAVE_TP_sent": 1,
        "TP_sent_NARGS": 2,
        "TP_sent__sk": 0,
        "TP_sent__skb": 1,
        "HAVE_TP_lost": 0,
        "HAVE_FUNC_send": 1,
        "FUNC_send_NARGS": 2,
        "ARG_send__sk": 0,
        "ARG_send__size": 1,
        "HAVE_FUNC_receive": 0,
    }


def test_shows_only_what_is_wanted(slices: Slices) -> None:
    """A member that nobody asked for is not in the text; a large struct held by value is there as bytes."""
    assert "skip" not in slices.text
    assert "struct opaque { union {\n\tchar size_of[80];\n}; };" in slices.text


def test_an_empty_kernel_fails_nothing() -> None:
    """Of a kernel without any of the wanted types every HAVE_ is 0, and nothing else is defined."""
    slices = render(Btf(BtfBlob().bytes()), TABLE)
    assert set(slices.macros.values()) == {0}
    assert all(name.startswith("HAVE_") for name in slices.macros)


def test_a_struct_that_holds_itself_is_damage() -> None:
    """Damaged types end in BtfError, not in endless text."""
    blob = BtfBlob()
    blob.struct("loop", 8, ("inner", blob.struct("", 8, ("again", blob.next_id, 0)), 0))
    with pytest.raises(BtfError, match="contains itself"):
        render(Btf(blob.bytes()), Wanted(structs={"loop": ("inner",)}))


@given(changes=st.lists(st.tuples(st.integers(24, 2000), st.integers(0, 255)), max_size=6))
def test_damaged_types_are_refused_or_rendered(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes of the types are changed, rendering ends, in text or in BtfError."""
    data = bytearray(kernel().blobs[0].data)
    for at, value in changes:
        data[at % len(data)] = value
    with suppress(BtfError):
        render(Btf(bytes(data)), WANTED)


def test_the_table_survives_json() -> None:
    """What is wanted crosses to the compile child as JSON and comes out the same."""
    assert Wanted.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE
