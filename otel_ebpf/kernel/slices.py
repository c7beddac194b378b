"""Struct slices: C text with just the kernel types that the programs name, laid out as in the running kernel.

In: :class:`~otel_ebpf.kernel.btf.Btf` and a table of what is wanted. Out: text to stand before the program text, and
the macros it defines. Each wanted member stands in a union at its true offset, so unions, reordering and renames cost
nothing::

    struct sk_buff { union { struct { char pad_len[112]; unsigned int len; }; char size_of[232]; }; };

Macros, by example; what the kernel lacks is 0 and has nothing but its ``HAVE_``:

======================================= ==============================================================================
``HAVE_STRUCT_sock``, ``SIZEOF_sock``   the struct
``HAVE_sock__sk_err``, ``OFF_sock__…``  the member, its offset in bytes (of a path: ``HAVE_net__ns__inum``)
``BF_<struct>__<path>(p)``              value of a bit field, by ``bpf_probe_read_kernel``
``BITS_<struct>__<path>(p)``            value of a bit field, by a load through *p*
``HAVE_ENUM_ITER_UBUF``, ``ITER_UBUF``  a value of a wanted enum
``HAVE_ENUM_BPF_FUNC_loop``             a BPF helper
``HAVE_TP_x``, ``TP_x_NARGS``,          a tracepoint, how many arguments it has, and the index of each in ``ctx[]`` of
``TP_x__arg``                           raw tracepoints and tp_btf
``HAVE_FUNC_f``, ``FUNC_f_NARGS``,      a kernel function, how many parameters it has (in ``ctx[]`` of fexit the index
``ARG_f__name``                         of the returned value), and the index of each in ``ctx[]`` of fentry and fexit
======================================= ==============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_ebpf.kernel.btf import AGGREGATES, ENUMS, Btf, BtfError, Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_ebpf.kernel.slice_table import Wanted

_WHOLE_BYTES: Final = 64  # a struct held by value of which no member is wanted: shown whole up to here, beyond as bytes
_DEPTH: Final = 32

_INTEGERS: Final = {
    (1, False): "unsigned char",
    (1, True): "signed char",
    (2, False): "unsigned short",
    (2, True): "short",
    (4, False): "unsigned int",
    (4, True): "int",
    (8, False): "unsigned long long",
    (8, True): "long long",
}


@dataclass(frozen=True, slots=True)
class Slices:
    """The text to prepend, and every macro with a number that it defines."""

    text: str
    macros: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Declared:
    """A C declaration and the alignment its type asks for, in bytes."""

    text: str
    alignment: int


@dataclass(slots=True)
class _Output:
    macros: dict[str, int] = field(default_factory=dict)
    accessors: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    forward: set[str] = field(default_factory=set)

    def text(self) -> str:
        """Return everything in the order C needs."""
        lines = ["#include <uapi/linux/ptrace.h>"]
        lines += [f"#define {name} {value}" for name, value in self.macros.items()]
        lines += [f"{name};" for name in sorted(self.forward)]
        return "\n".join([*lines, *self.definitions, *self.accessors]) + "\n"


def render(btf: Btf, wanted: Wanted) -> Slices:
    """Render what *wanted* names, as the kernel of *btf* has it.

    Raises:
        BtfError: The type information is damaged.
    """
    names = {*wanted.structs, *wanted.enums, *wanted.functions, "bpf_func_id"}
    names |= {prefix + name for name in wanted.tracepoints for prefix in ("btf_trace_", "__traceiter_")}
    found = btf.find(names, (*AGGREGATES, *ENUMS, Kind.FUNC, Kind.TYPEDEF))
    output = _Output()
    _render_structs(btf, found, wanted, output)
    for name, values in wanted.enums.items():
        _render_enum(btf, _first(found, name, ENUMS), values, output.macros)
    _render_helpers(btf, _first(found, "bpf_func_id", ENUMS), wanted.helpers, output.macros)
    for name in wanted.tracepoints:
        _render_tracepoint(btf, found, name, output.macros)
    for name in wanted.functions:
        _render_function(btf, found.get((name, Kind.FUNC)), name, output.macros)
    return Slices(output.text(), output.macros)


def _first(found: dict[tuple[str, Kind], int], name: str, kinds: Iterable[Kind]) -> int | None:
    return next((found[name, kind] for kind in kinds if (name, kind) in found), None)


# -- enums, tracepoints, functions -----------------------------------------------------------------------------------


def _render_enum(btf: Btf, type_id: int | None, values: tuple[str, ...], macros: dict[str, int]) -> None:
    have = dict(btf.enum_values(type_id)) if type_id else {}
    for name in values or have:
        macros[f"HAVE_ENUM_{name}"] = int(name in have)
        if name in have:
            macros[name] = have[name]


def _render_helpers(btf: Btf, type_id: int | None, helpers: tuple[str, ...], macros: dict[str, int]) -> None:
    """Only ``HAVE_``: the values themselves stand in BCC's own bpf.h."""
    have = {name for name, _ in btf.enum_values(type_id)} if type_id else set()
    for helper in helpers:
        macros[f"HAVE_ENUM_BPF_FUNC_{helper}"] = int(f"BPF_FUNC_{helper}" in have)


def _render_tracepoint(btf: Btf, found: dict[tuple[str, Kind], int], name: str, macros: dict[str, int]) -> None:
    prototype = found.get((f"btf_trace_{name}", Kind.TYPEDEF))
    macros[f"HAVE_TP_{name}"] = int(prototype is not None)
    if prototype is None:
        return
    # The typedef has types alone; the names stand at the function that calls the probes. The first one is internal.
    arguments = btf.parameters(found.get((f"__traceiter_{name}", Kind.FUNC), prototype))[1:]
    macros[f"TP_{name}_NARGS"] = len(arguments)
    for index, argument in enumerate(arguments):
        plain = argument.removesuffix("__nullable")  # since 6.12 a note to the verifier stands in some names
        macros[f"TP_{name}__{plain or f'arg{index}'}"] = index


def _render_function(btf: Btf, type_id: int | None, name: str, macros: dict[str, int]) -> None:
    macros[f"HAVE_FUNC_{name}"] = int(type_id is not None)
    if type_id is None:
        return
    parameters = btf.parameters(type_id)
    macros[f"FUNC_{name}_NARGS"] = len(parameters)
    for index, parameter in enumerate(parameters):
        macros[f"ARG_{name}__{parameter or f'arg{index}'}"] = index


# -- structs ---------------------------------------------------------------------------------------------------------


def _render_structs(btf: Btf, found: dict[tuple[str, Kind], int], wanted: Wanted, output: _Output) -> None:
    chosen = _Chosen(btf, output)
    roots = {name: _first(found, name, AGGREGATES) for name in wanted.structs}
    for name, fields in wanted.structs.items():
        type_id = roots[name]
        output.macros[f"HAVE_STRUCT_{name}"] = int(type_id is not None)
        if type_id is not None:
            output.macros[f"SIZEOF_{name}"] = btf.size(type_id)
        for specification in fields:
            chosen.add(name, type_id, specification)
    definitions = _Definitions(btf, chosen.members, output)
    for type_id in roots.values():
        if type_id is not None:
            definitions.define(type_id)


class _Chosen:
    """Which members of which types are wanted, by type id; fills in the macros of each on the way."""

    def __init__(self, btf: Btf, output: _Output) -> None:
        self.members: dict[int, dict[str, Member]] = {}
        self._btf = btf
        self._output = output

    def add(self, struct: str, type_id: int | None, specification: str) -> None:
        """Look *specification* up: ``path`` or ``path=older|oldest``."""
        ours, _, others = specification.partition("=")
        path = ours.split(".")
        name = "__".join((struct, *path))
        spellings = [path, *(other.split(".") for other in others.split("|") if other)]
        steps = next(filter(None, (self._walk(type_id, spelling) for spelling in spellings)), None)
        self._output.macros[f"HAVE_{name}"] = int(steps is not None)
        if type_id is None or steps is None:
            return
        last = steps[-1][1]
        whole = Member(path[-1], last.type_id, sum(step.bit_offset for _, step in steps), last.bits)
        self._output.macros[f"OFF_{name}"] = whole.bit_offset // 8
        if len(path) != len(steps):  # the other name has another depth: shown in the struct itself, by its true offset
            path, steps = path[-1:], [(type_id, whole)]
        if last.bits:
            path, steps[-1] = self._bit_field(name, path, steps[-1], whole)
        for spelled, (owner, member) in zip(path, steps, strict=True):
            self.members.setdefault(owner, {})[spelled] = member

    def _walk(self, type_id: int | None, path: list[str]) -> list[tuple[int, Member]] | None:
        """Follow *path*: the type of each step and the member of it; None when one is missing."""
        steps = []
        for left, name in zip(reversed(range(len(path))), path, strict=True):
            if type_id is None or self._btf.kind(owner := self._btf.strip(type_id)) not in AGGREGATES:
                return None
            member = self._btf.member(owner, name)
            if member is None or (member.bits and left):  # a bit field has no members
                return None
            steps.append((owner, member))
            type_id = member.type_id
        return steps

    def _bit_field(
        self, name: str, path: list[str], step: tuple[int, Member], whole: Member
    ) -> tuple[list[str], tuple[int, Member]]:
        """Write the accessors; return path and step of the integer that holds the bits: member ``<name>__bits``."""
        owner, member = step
        size, inner = _unit(member)
        shift, mask = member.bit_offset - inner * 8, (1 << member.bits) - 1
        path = [*path[:-1], path[-1] + "__bits"]
        offset = whole.bit_offset // 8 - (member.bit_offset // 8 - inner)
        integer = _INTEGERS[size, False]
        read = f"bpf_probe_read_kernel(&_bits, sizeof(_bits), (const char *)(p) + {offset})"
        self._output.accessors += [
            f"#define BITS_{name}(p) (((p)->{'.'.join(path)} >> {shift}) & {mask:#x})",
            f"#define BF_{name}(p) ({{ {integer} _bits = 0; {read}; (_bits >> {shift}) & {mask:#x}; }})",
        ]
        return path, (owner, Member(path[-1], 0, inner * 8, size * 8))


def _unit(member: Member) -> tuple[int, int]:
    """Size and byte offset of the smallest aligned integer that holds a bit field."""
    for size in (1, 2, 4, 8):
        offset = member.bit_offset // 8 // size * size
        if member.bit_offset + member.bits <= (offset + size) * 8:
            return size, offset
    raise BtfError(f"BTF is damaged: bit field {member.name} is wider than a word")


class _Definitions:
    """Writes C definitions; what a struct holds by value stands before it."""

    def __init__(self, btf: Btf, chosen: dict[int, dict[str, Member]], output: _Output) -> None:
        self._btf = btf
        self._chosen = chosen
        self._output = output
        self._alignments: dict[int, int] = {}

    def define(self, type_id: int) -> int:
        """Define a named struct or union, once; return its alignment."""
        if type_id not in self._alignments:
            self._alignments[type_id] = 1  # also ends the recursion of a damaged struct that holds itself
            body = self._body(type_id, 0)
            self._alignments[type_id] = body.alignment
            self._output.definitions.append(f"{self._tag(type_id)} {body.text};")
        return self._alignments[type_id]

    def _tag(self, type_id: int) -> str:
        keyword = "union" if self._btf.kind(type_id) is Kind.UNION else "struct"
        return f"{keyword} {self._btf.name(type_id)}".rstrip()

    def _body(self, type_id: int, depth: int) -> _Declared:
        if depth > _DEPTH:
            raise BtfError("BTF is damaged: a struct contains itself")
        size = self._btf.size(type_id)
        members = self._chosen.get(type_id)
        if members is None:
            members = dict(self._whole(type_id)) if size <= _WHOLE_BYTES else {}
        lines, alignment = [], 1
        for name, member in sorted(members.items(), key=lambda item: item[1].bit_offset):
            declared = self._member(name, member, depth)
            lines.append(f"\t{declared.text}\n")
            alignment = max(alignment, declared.alignment)
        packed = " __attribute__((packed))" if size % alignment else ""
        text = f"{{ union {{\n{''.join(lines)}\tchar size_of[{size}];\n}}{packed}; }}{packed}"
        return _Declared(text, 1 if packed else alignment)

    def _whole(self, type_id: int, base: int = 0, depth: int = 0) -> Iterator[tuple[str, Member]]:
        """Every member of a small struct that is not a bit field, those of anonymous parts among them."""
        if depth > _DEPTH:
            raise BtfError("BTF is damaged: a struct contains itself")
        for one in self._btf.members(type_id):
            if one.name and not one.bits:
                yield one.name, Member(one.name, one.type_id, base + one.bit_offset, 0)
            elif not one.name and self._btf.kind(inner := self._btf.strip(one.type_id)) in AGGREGATES:
                yield from self._whole(inner, base + one.bit_offset, depth + 1)

    def _member(self, name: str, member: Member, depth: int) -> _Declared:
        """Declare one member at its offset."""
        if member.bits:  # the integer around a bit field
            declared = _Declared(f"{_INTEGERS[member.bits // 8, False]} {name}", member.bits // 8)
        else:
            declared = self._declare(member.type_id, name, depth)
        offset = member.bit_offset // 8
        pad = f"char pad_{name}[{offset}]; " if offset else ""
        if offset % declared.alignment:
            return _Declared(f"struct {{ {pad}{declared.text}; }} __attribute__((packed));", 1)
        text = f"struct {{ {pad}{declared.text}; }};" if offset else f"{declared.text};"
        return _Declared(text, declared.alignment)

    def _declare(self, type_id: int, name: str, depth: int) -> _Declared:
        """Declare *name* as a variable of a type."""
        if depth > _DEPTH:
            raise BtfError("BTF is damaged: a type contains itself")
        btf, type_id = self._btf, self._btf.strip(type_id)
        kind = btf.kind(type_id)
        if kind is Kind.PTR:
            return _Declared(self._pointer(btf.strip(btf.target(type_id)), name, depth), 8)
        if kind is Kind.ARRAY:
            element, length = btf.array(type_id)
            return self._declare(element, f"{name}[{length}]", depth + 1)
        if kind in AGGREGATES and btf.size(type_id):
            return self._held(type_id, name, depth)
        return self._scalar(type_id, kind, name)

    def _held(self, type_id: int, name: str, depth: int) -> _Declared:
        """Declare a struct or union held by value."""
        if self._btf.name(type_id):
            alignment = self.define(type_id)
            return _Declared(f"{self._tag(type_id)} {name}", alignment)
        body = self._body(type_id, depth + 1)
        return _Declared(f"{self._tag(type_id)} {body.text} {name}", body.alignment)

    def _pointer(self, target: int, name: str, depth: int) -> str:
        btf, kind = self._btf, self._btf.kind(target)
        if kind in (*AGGREGATES, Kind.FWD) and btf.name(target):
            union = kind is Kind.UNION or (kind is Kind.FWD and btf.kind_flag(target))
            tag = f"{'union' if union else 'struct'} {btf.name(target)}"
            self._output.forward.add(tag)
            return f"{tag} *{name}"
        if "[" not in name and kind in (Kind.INT, Kind.PTR, *ENUMS):
            return self._declare(target, f"*{name}", depth + 1).text
        return f"void *{name}"

    def _scalar(self, type_id: int, kind: Kind, name: str) -> _Declared:
        btf = self._btf
        size = btf.size(type_id)
        signed = boolean = False
        if kind is Kind.INT:
            size, signed, boolean = btf.integer(type_id)
        elif kind in ENUMS:
            signed = btf.kind_flag(type_id)
        if boolean:
            return _Declared(f"_Bool {name}", 1)
        if kind is Kind.INT and btf.name(type_id) == "char":
            return _Declared(f"char {name}", 1)
        if kind in (Kind.INT, *ENUMS) and (size, signed) in _INTEGERS:
            return _Declared(f"{_INTEGERS[size, signed]} {name}", size)
        return _Declared(f"char {name}[{size}]", 1)
