"""The BTF reader: exact on good input, one clear error on any other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.kernel.btf import Btf, BtfError, Kind, Member
from tests.support.btf_blob import BtfBlob

if TYPE_CHECKING:
    from pathlib import Path


def small_kernel() -> BtfBlob:
    """A blob with one type of most kinds."""
    blob = BtfBlob()
    number = blob.integer("unsigned int", 4)  # 1
    byte = blob.integer("char", 1, signed=True)  # 2
    name = blob.array(byte, 16)  # 3
    inner = blob.struct("", 8, ("seq", number, 0), ("ack", number, 32))  # 4, anonymous
    count = blob.add(Kind.TYPEDEF, "count_t", number)  # 5
    constant = blob.add(Kind.CONST, "", count)  # 6
    blob.struct(  # 7
        "thing",
        40,
        ("name", name, 0),
        ("", inner, 128),
        ("state", number, 192, 5),
        ("flag", number, 197, 1),
        ("total", constant, 224),
        ("next", blob.next_id + 1, 256),
    )
    blob.pointer(7)  # 8
    blob.enum("colour", ("RED", 0), ("BLUE", -2), signed=True)  # 9
    blob.enum64("wide", ("HUGE", 1 << 40))  # 10
    blob.function("do_thing", ("thing", 8), ("how", number))  # 11, 12
    return blob


@pytest.fixture
def btf() -> Btf:
    """The types of :func:`small_kernel`."""
    return Btf(small_kernel().bytes())


def test_finds_types_by_name_and_kind(btf: Btf) -> None:
    """Names are found with their kind; names that are not there are left out."""
    found = btf.find(("thing", "colour", "absent", "do_thing"), (Kind.STRUCT, Kind.ENUM))
    assert found == {("thing", Kind.STRUCT): 7, ("colour", Kind.ENUM): 9}


def test_a_name_inside_a_longer_one_is_not_found() -> None:
    """Only whole names count, also the first and the last of the strings."""
    blob = BtfBlob()
    blob.struct("sock_common", 4)
    blob.struct("my_sock", 4)
    assert Btf(blob.bytes()).find(("sock", "common"), (Kind.STRUCT,)) == {}


def test_lists_members_with_their_bits(btf: Btf) -> None:
    """Offsets are in bits, and only bit fields have a size."""
    assert list(btf.members(7)) == [
        Member("name", 3, 0, 0),
        Member("", 4, 128, 0),
        Member("state", 1, 192, 5),
        Member("flag", 1, 197, 1),
        Member("total", 6, 224, 0),
        Member("next", 8, 256, 0),
    ]


def test_finds_a_member_of_an_anonymous_part(btf: Btf) -> None:
    """The offset of a member inside an anonymous struct counts from the outer one."""
    assert btf.member(7, "ack") == Member("ack", 1, 160, 0)
    assert btf.member(7, "absent") is None


@pytest.mark.parametrize(("type_id", "size"), [(0, 0), (1, 4), (3, 16), (6, 4), (7, 40), (8, 8), (9, 4), (10, 8)])
def test_knows_sizes(btf: Btf, type_id: int, size: int) -> None:
    """Sizes are those of the type behind typedefs and qualifiers; an array is as large as all its elements."""
    assert btf.size(type_id) == size


def test_reads_enums(btf: Btf) -> None:
    """Values are signed where the enum says so, and may have 64 bits."""
    assert list(btf.enum_values(9)) == [("RED", 0), ("BLUE", -2)]
    assert list(btf.enum_values(10)) == [("HUGE", 1 << 40)]


def test_reads_parameters(btf: Btf) -> None:
    """Parameters of a function are told by name, in order."""
    assert btf.parameters(btf.find(("do_thing",), (Kind.FUNC,))["do_thing", Kind.FUNC]) == ["thing", "how"]


def test_a_module_refers_to_the_types_and_strings_of_vmlinux() -> None:
    """Split BTF continues the ids and string offsets of its base, and may use both."""
    base = small_kernel()
    module = BtfBlob(base.next_id, base.end_string)
    outer = module.struct("module_thing", 48, ("first", 7, 0), ("count", 1, 320))
    module.struct("thing", 4)
    btf = Btf(module.bytes(), Btf(base.bytes()))
    assert btf.find(("module_thing", "thing"), (Kind.STRUCT,)) == {
        ("module_thing", Kind.STRUCT): outer,
        ("thing", Kind.STRUCT): outer + 1,
    }
    assert [(member.name, btf.name(member.type_id)) for member in btf.members(outer)] == [
        ("first", "thing"),
        ("count", "unsigned int"),
    ]
    assert btf.member(7, "ack") == Member("ack", 1, 160, 0)


def circular() -> bytes:
    """A typedef of itself, an array of itself, a struct that holds itself."""
    blob = BtfBlob()
    blob.add(Kind.TYPEDEF, "loop", 1)
    blob.array(2, 3)
    blob.struct("self", 8, ("", 3, 0))
    return blob.bytes()


def test_circular_types_end() -> None:
    """Types that contain themselves are damaged data, not an endless loop."""
    btf = Btf(circular())
    with pytest.raises(BtfError, match="a typedef refers to itself"):
        btf.strip(1)
    with pytest.raises(BtfError, match="an array contains itself"):
        btf.size(2)
    assert btf.member(3, "x") is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "shorter than its header"),
        (b"\x9f\xeb\x01", "shorter than its header"),
        (b"\xeb\x9f" + bytes(30), "not BTF of a little-endian machine"),
        (small_kernel().bytes()[:-1], "shorter than its header says"),
        (small_kernel().bytes()[:-1] + b"x", "its strings have no end"),
        (small_kernel().bytes()[:28] + b"\xff" * 4 + small_kernel().bytes()[32:], "kind 31"),
    ],
)
def test_damaged_data_get_one_sentence(data: bytes, sentence: str) -> None:
    """Every kind of damage is a BtfError that says what it is."""
    with pytest.raises(BtfError, match=sentence):
        Btf(data)


def test_a_missing_file_gets_one_sentence(tmp_path: Path) -> None:
    """A kernel without BTF is told of in one sentence that names the kernel's option."""
    with pytest.raises(
        BtfError, match=r"^this kernel does not describe its types \(CONFIG_DEBUG_INFO_BTF\): no .*/absent$"
    ):
        Btf.load(tmp_path / "absent")


def test_a_file_is_read_where_it_cannot_be_mapped(tmp_path: Path) -> None:
    """An empty file, which cannot be mapped, is read; and refused as any other damage."""
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BtfError, match="shorter than its header"):
        Btf.load(tmp_path / "empty")


def look_at_everything(data: bytes) -> None:
    """Ask everything of every type."""
    btf = Btf(data)
    names = ("thing", "colour", "unsigned int", "do_thing")
    for type_id in [*btf.find(names, Kind).values(), *range(14)]:
        for question in (btf.kind, btf.name, btf.strip, btf.size, btf.parameters, btf.array, btf.integer):
            ask(question, type_id)
        ask(lambda one: list(btf.members(one)), type_id)
        ask(lambda one: list(btf.enum_values(one)), type_id)
        ask(lambda one: btf.member(one, "ack"), type_id)


def ask(question: object, type_id: int) -> None:
    """Ask one question; an answer and a BtfError are both fine."""
    assert callable(question)
    with suppress(BtfError):
        question(type_id)


@given(data=st.data())
def test_no_damage_gets_through(data: st.DataObject) -> None:
    """Whatever bytes are changed or cut off, the reader answers or raises BtfError."""
    blob = bytearray(small_kernel().bytes() if data.draw(st.booleans()) else circular())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(blob) - 1), st.integers(0, 255)), max_size=8)):
        blob[at] = value
    end = data.draw(st.one_of(st.just(len(blob)), st.integers(0, len(blob))))
    with suppress(BtfError):
        look_at_everything(bytes(blob[:end]))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    """Arbitrary bytes behind a good magic number are refused or read, never an accident."""
    with suppress(BtfError):
        look_at_everything(b"\x9f\xeb\x01\x00" + noise)
