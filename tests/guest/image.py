"""The guest's file system: an initramfs made of files of this machine.

In: a payload script and the product's sources. Out: one initramfs file. A base (busybox, Python, BCC and their
libraries) is built once per state of the machine's packages; what changes from run to run is a small archive behind it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sysconfig
import tempfile
import tomllib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

from tests.guest.cpio import CpioWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_PYTHON: Final = Path("/usr/bin/python3.11")
_BUSYBOX: Final = Path("/usr/bin/busybox")
_LIBRARY_FOLDERS: Final = ("lib", "lib64", "bin", "sbin")
_STANDARD_LIBRARY: Final = Path("/usr/lib/python3.11")
_CONFIG: Final = f"config-3.11-{sysconfig.get_config_var('MULTIARCH')}"  # Python as a static library: large, of no use
_LEFT_OUT: Final = frozenset(
    {"test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "pydoc_data", "turtledemo", _CONFIG}
)
_BCC: Final = Path("/usr/lib/python3/dist-packages/bcc")
# What BCC's Python side opens by name; the dynamic linker's list cannot tell.
_OPENED_BY_NAME: Final = ("libbcc.so.0", "librt.so.1")
_SITE: Final = PurePosixPath("/site")
_PRODUCT: Final = PurePosixPath("/product")
_PAYLOAD: Final = PurePosixPath("/payload")
_LDD_PATH: Final = re.compile(r"(?:=> |^\t)(/\S+) \(0x", re.MULTILINE)


def base(cache: Path) -> Path:
    """The part that only changes with the machine's packages; about 230 MB, built at most once per state."""
    path = cache / f"base-{_machine_key()}.cpio"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = cache / f"base-{os.getpid()}.unfinished"
    with unfinished.open("wb") as out, CpioWriter(out) as archive:
        _add_base(archive)
    unfinished.rename(path)
    for old in set(cache.glob("base-*")) - {path}:
        old.unlink()
    return path


def overlay(out: Path, script: Path, files: Mapping[str, Path | bytes], environment: Mapping[str, str]) -> None:
    """The part of one run: the payload, the product and the packages that the product needs."""
    with out.open("wb") as stream, CpioWriter(stream) as archive:
        archive.file(_PAYLOAD / "main.py", script)
        archive.file(_PAYLOAD / "inside.py", Path(__file__).with_name("inside.py"))
        path = f"{_PAYLOAD}:{_PRODUCT}:{_SITE}:{_BCC.parent}"
        exported = {"PYTHONPATH": path, **environment}
        archive.data(_PAYLOAD / "environment", "".join(f"export {k}='{v}'\n" for k, v in exported.items()).encode())
        for name, content in files.items():
            where = PurePosixPath(name)
            archive.data(where, content if isinstance(content, bytes) else content.read_bytes(), mode=0o755)
        _add_product(archive)
        _add_packages(archive)


def initramfs(out: Path, parts: Iterable[Path]) -> None:
    """Several archives, one behind the other."""
    with out.open("wb") as stream:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 24)


def _machine_key() -> str:
    packages = subprocess.run(["dpkg-query", "-W"], capture_output=True, check=True, timeout=60).stdout
    own = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("image.py", "cpio.py", "init.sh"))
    return hashlib.sha256(packages + own).hexdigest()[:16]


def _add_base(archive: CpioWriter) -> None:
    for name in _LIBRARY_FOLDERS:
        archive.link(PurePosixPath("/") / name, f"usr/{name}")
    for name in ("proc", "sys", "tmp", "root", "run", "etc"):
        archive.directory(PurePosixPath("/") / name)
    archive.console()
    archive.data(PurePosixPath("/init"), Path(__file__).with_name("init.sh").read_bytes(), mode=0o755)
    archive.file(PurePosixPath(_BUSYBOX), _BUSYBOX)
    for applet in ("sh", "mount", "ip", "cut", "poweroff", "cat", "ls", "uname", "modprobe"):
        archive.link(PurePosixPath("/usr/bin") / applet, "busybox")
    archive.file(PurePosixPath(_PYTHON), _PYTHON)
    archive.link(PurePosixPath("/usr/bin/python3"), _PYTHON.name)
    for path in (*_tree(_STANDARD_LIBRARY), *_tree(_BCC)):
        archive.file(PurePosixPath(path), path)
    opened = [_library(name) for name in _OPENED_BY_NAME]
    for path in opened:
        archive.file(PurePosixPath(path), path.resolve())
    _add_libraries(archive, [_PYTHON, *opened, *(_STANDARD_LIBRARY / "lib-dynload").glob("*.so")])


def _library(name: str) -> Path:
    return Path("/usr/lib", sysconfig.get_config_var("MULTIARCH"), name)


def _tree(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _LEFT_OUT.isdisjoint(path.relative_to(folder).parts):
            yield path


def _add_libraries(archive: CpioWriter, binaries: list[Path]) -> None:
    """What the dynamic linker says these need, itself included; each file goes where the linker looks for the name."""
    listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False, timeout=300).stdout
    for name in sorted(_LDD_PATH.findall(listed)):
        archive.file(PurePosixPath("/usr") / name.removeprefix("/usr").lstrip("/"), Path(name).resolve())


def _add_product(archive: CpioWriter) -> None:
    for path in _tree(REPOSITORY / "bpf"):
        archive.file(_PRODUCT / path.relative_to(REPOSITORY), path)
    with tempfile.TemporaryDirectory() as scratch:
        for path in (REPOSITORY / "otel_ebpf").rglob("*.py"):
            archive.file(_PRODUCT / path.relative_to(REPOSITORY), path)
            compiled = Path(scratch) / "compiled"
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(path), cfile=str(compiled), invalidation_mode=mode, doraise=True)
            cached = path.relative_to(REPOSITORY).parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"
            archive.data(_PRODUCT / cached, compiled.read_bytes())
    _add_metadata(archive)


def _add_metadata(archive: CpioWriter) -> None:
    """The product may ask for its own version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    archive.data(_SITE / f"otel_ebpf-{project['version']}.dist-info" / "METADATA", text.encode())


def _add_packages(archive: CpioWriter) -> None:
    binaries = []
    for distribution in _required():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file))).resolve()
            if ".." in file.parts or not source.is_file():
                continue
            archive.file(_SITE / file, source)
            if source.suffix == ".so":
                binaries.append(source)
    if binaries:
        _add_libraries(archive, binaries)


def _required() -> list[importlib.metadata.Distribution]:
    """The distributions that the product needs at run time, with those that they need."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(project["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = importlib.metadata.distribution(requirement.name)
        waiting += found[requirement.name].requires or []
    return list(found.values())
