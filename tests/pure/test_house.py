"""The house: layering, sizes, no hidden state, generated pages fresh, nothing of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from scripts import docs

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "otel_ebpf"

# Part of the tree → what of the package it may import. The longest prefix that fits decides.
LAYERS: Final[dict[str, tuple[str, ...]]] = {
    "errors": (),
    "clock": (),
    "settings_parse": (),
    "config": ("errors", "settings_parse"),
    "settings_docs": ("config",),
    "privileges": (),
    "kernel": ("kernel", "errors", "records", "clock"),
    "kernel.layout": (),
    "records": ("kernel.layout",),
    "kernel_ledger": ("kernel.layout", "flows"),
    "protocols": ("protocols",),
    "flows": ("flows", "records", "protocols", "kernel.layout"),
    "enrich": ("enrich", "records", "config", "settings_parse", "clock"),
    "telemetry": ("telemetry", "records", "protocols.exchange", "enrich", "config", "clock", "errors"),
    "node_health": ("kernel", "telemetry.health", "config"),
    "recording": ("records", "errors", "kernel.layout"),
    "pipeline": ("kernel_ledger", "flows", "records", "clock"),
    "check": ("kernel.probes", "privileges"),
    "cli": ("agent", "check", "config", "settings_docs", "errors", "privileges"),
    "agent": ("",),
    "": (),
}

# Who may import what is heavy, privileged or foreign.
GUARDED: Final = {
    "bcc": ("kernel.compiler",),
    "opentelemetry": ("telemetry",),
    "grpc": ("telemetry",),
    "google": ("telemetry",),
    "requests": ("telemetry",),
    "rich": ("telemetry.console", "check", "cli", "settings_docs"),
}

# Lines: ceilings by kind, and the files that have one of their own, with the reason.
PYTHON_LINES: Final = 400
FUNCTION_LINES: Final = 40
HOOK_LINES: Final = 200
HEADER_LINES: Final = 120
PAGE_LINES: Final = 100
OWN_CEILING: Final = {
    "bpf/include/records.h": (260, "a table: the border"),
    "bpf/include/maps.h": (200, "a table: every map"),
    "otel_ebpf/config.py": (450, "a table: every setting"),
    "otel_ebpf/telemetry/instruments.py": (450, "a table: every instrument"),
    "otel_ebpf/kernel/probes.py": (450, "a table: every hook"),
    "otel_ebpf/pipeline.py": (PAGE_LINES, "the loop, on one page"),
    "bpf/agent.c": (PAGE_LINES, "a table of contents"),
}
OWN_FUNCTION_CEILING: Final = {
    "otel_ebpf/flows/intake.py:take": (60, "the hot path: flat, everything in local variables"),
    "otel_ebpf/telemetry/telemetry.py:__init__": (50, "where all parts of telemetry meet"),
}


def modules() -> list[str]:
    """Return every module of the package by its dotted name below it, ``kernel.ring``; the package itself is empty."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix("__init__").removesuffix(".") for path in paths)


def source(module: str) -> Path:
    """Return the file of a module."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    """Return a parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it; names taken from a package may be modules, too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = node.module == "otel_ebpf" or (PACKAGE.parent / str(node.module).replace(".", "/")).is_dir()
            yield from ((f"{node.module}.{alias.name}" for alias in node.names) if inside else [str(node.module)])


def inside(name: str, part: str) -> bool:
    """Tell whether a dotted name is *part* or below it; the empty part holds everything."""
    return not part or name == part or name.startswith(f"{part}.")


def layer(module: str) -> tuple[str, ...]:
    """Return what a module may import."""
    return LAYERS[max((part for part in LAYERS if inside(module, part)), key=len)]


def walked(*patterns: str) -> list[Path]:
    """Return the files of the tree that fit one of the patterns."""
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern) if "stub" not in path.parts)


def tracked() -> list[Path]:
    """Return the files that are, or would be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in listed.split("\0") if name and not name.startswith(".venv/")]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("module", modules())
def test_a_stage_imports_only_what_the_table_allows(module: str) -> None:
    """The tree is the data flow: a stage knows the value types of the one before it, and only agent.py knows all."""
    allowed = layer(module)
    own = [
        name.removeprefix("otel_ebpf").removeprefix(".")
        for name in imported(source(module))
        if inside(name, "otel_ebpf")
    ]
    assert [name for name in own if not any(inside(name, part) for part in allowed)] == []


@pytest.mark.parametrize("module", modules())
def test_foreign_packages_stay_where_they_belong(module: str) -> None:
    """BCC is imported in the compile child alone, OpenTelemetry and gRPC in telemetry alone."""
    for name in imported(source(module)):
        for package, homes in GUARDED.items():
            if inside(name, package):
                assert any(module.startswith(home) for home in homes), f"{module} imports {name}"


def test_every_file_keeps_its_size() -> None:
    """Small pieces: a file that outgrows its ceiling wants to be two."""
    kinds = [
        (PYTHON_LINES, walked("otel_ebpf/**/*.py", "scripts/*.py", "bench/*.py")),
        (HOOK_LINES, walked("bpf/*.c")),
        (HEADER_LINES, walked("bpf/**/*.h")),
    ]
    found = {}
    for ceiling, paths in kinds:
        for path in paths:
            name = str(path.relative_to(ROOT))
            lines = path.read_text(encoding="utf-8").count("\n")
            if lines > OWN_CEILING.get(name, (ceiling, ""))[0]:
                found[name] = lines
    assert found == {}


def test_every_function_keeps_its_size() -> None:
    """A function of more than forty lines is a smell; docstrings count."""
    found = {}
    for path in walked("otel_ebpf/**/*.py", "scripts/*.py", "bench/*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                name, lines = f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1
                if lines > OWN_FUNCTION_CEILING.get(name, (FUNCTION_LINES, ""))[0]:
                    found[name] = lines
    assert found == {}


@pytest.mark.parametrize("module", modules())
def test_importing_a_module_does_nothing(module: str) -> None:
    """A module declares: no statements that act, no state that changes, no ``global``."""
    path = source(module)
    assert [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Global)] == []
    assert [ast.unparse(node)[:80] for node in tree(path).body if not _declares(node)] == []


def _declares(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=test):
            return ast.unparse(test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        case ast.AnnAssign(annotation=annotation):
            return re.search("Final|TypeAlias", ast.unparse(annotation)) is not None
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name == "__all__" or _is_constant_by_kind(value)
        case _:
            return False


def _is_constant_by_kind(value: ast.expr) -> bool:
    """Tell whether a value is a logger, a compiled pattern, a type or a type alias: nothing that changes."""
    made = r"logging\.getLogger\(__name__\)$|re\.compile\(|TypeVar\(|[A-Za-z]\w*\[|\w+ \| "
    return re.match(made, ast.unparse(value)) is not None


def test_every_make_target_says_what_it_does() -> None:
    """``make`` alone is the manual: each target that a person may name has its line."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(re.findall(r"^([a-z]+):.*## \S", text, re.MULTILINE))
    assert re.findall(r"^([a-z]+):(?!=)(?!.*## )", text, re.MULTILINE) == []


def test_generated_pages_are_fresh() -> None:
    """``make docs`` would change nothing."""
    assert [path.name for path in docs.stale()] == []


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    """No path of the machine that a file was written on."""
    paths = re.compile("|".join(["/" + "work/", "/" + "root/", "/tm" + "p/bash", "/home/" + r"\w"]))
    found = {}
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if hit := paths.search(text):
            found[str(path.relative_to(ROOT))] = hit[0]
    assert found == {}


def test_the_wheel_has_every_package() -> None:
    """The list in pyproject.toml is the tree, with the kernel side inside."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert sorted(listed) == sorted({*there, "otel_ebpf.bpf"})


def test_every_dependency_is_locked_and_has_a_reason() -> None:
    """What pyproject.toml asks for stands with hashes in the lock file, and in the decision about dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    reasons = (ROOT / "docs/decisions/0001-dependencies.md").read_text(encoding="utf-8")
    dev = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for lock, wanted in (("requirements.lock", project["dependencies"]), ("requirements-dev.lock", dev)):
        locked = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:", (ROOT / lock).read_text(), re.MULTILINE)
        names = [re.split(r"[<>=]", name)[0] for name in wanted]
        assert set(names) <= set(locked)
        if lock == "requirements.lock":
            assert [name for name in locked if f"`{name}`" not in reasons] == []


def test_every_test_says_in_a_sentence_what_is_true() -> None:
    """Each test function has a docstring that ends like a sentence."""
    silent = []
    for path in walked("tests/**/test_*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = ast.get_docstring(node) or ""
                if not said.split("\n\n")[0].rstrip().endswith("."):
                    silent.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert silent == []
