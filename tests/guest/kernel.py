"""Debian's own kernels, unpacked and never installed.

In: a version such as "6.1". Out: the path of its vmlinuz in the cache.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


class KernelMissingError(Exception):
    """No package of this kernel can be had from the machine's package sources."""


def kernel(version: str, cache: Path) -> Path:
    """The newest cloud kernel of a release that the package sources hold, downloaded at most once.

    Raises :class:`KernelMissingError` when none can be downloaded.
    """
    folder = cache / f"kernel-{version}"
    if found := sorted(folder.glob("boot/vmlinuz-*")):
        return found[-1]
    folder.mkdir(parents=True, exist_ok=True)
    for package in _packages(version):
        if _download(package, folder):
            return _unpack(folder)
    raise KernelMissingError(f"no linux-image-{version}.*-cloud-amd64 in the package sources (apt-get update?)")


def _packages(version: str) -> list[str]:
    pattern = rf"^linux-image-{re.escape(version)}\.[0-9.]+-[0-9]+-cloud-amd64$"
    listed = subprocess.run(
        ["apt-cache", "search", "--names-only", pattern], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    names = [line.split(" - ")[0] for line in listed.splitlines()]
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], reverse=True)


def _download(package: str, folder: Path) -> bool:
    """An index may name a package whose file has gone: then the next older one serves as well."""
    done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, check=False, timeout=300)
    return done.returncode == 0


def _unpack(folder: Path) -> Path:
    archive = next(folder.glob("*.deb"))
    subprocess.run(["dpkg", "-x", archive, folder], check=True, timeout=120)
    archive.unlink()
    return next(folder.glob("boot/vmlinuz-*"))
