"""The wheel: everything the agent needs is in it, the kernel side too, and it works from any directory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
_ASK: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from otel_ebpf.kernel import layout
print(layout.bpf_directory())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    names = ["otel_ebpf", "bpf", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *names, folder], cwd=ROOT, check=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=folder, check=True, timeout=120)
    (found,) = (folder / "dist").glob("*.whl")
    return found


def test_the_kernel_side_is_inside_with_its_license(wheel: Path) -> None:
    """Every file of bpf/ stands in otel_ebpf/bpf/, and both licenses are there."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "bpf").rglob("*") if path.is_file()}
    assert {name.removeprefix("otel_ebpf/") for name in inside if name.startswith("otel_ebpf/bpf/")} == there
    assert {name.partition(".dist-info/")[2] for name in inside if "licenses/" in name} == {
        "licenses/LICENSE",
        "licenses/bpf/LICENSE",
    }
    assert "otel_ebpf/py.typed" in inside


def test_it_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    """Unpacked anywhere, the package finds its own C sources and not those of a checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    command = [sys.executable, "-c", _ASK, str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "site/otel_ebpf/bpf"
    assert (tmp_path / "site/otel_ebpf/bpf/agent.c").is_file()
