"""Containers: which one a cgroup path belongs to, for every layout that runtimes make on cgroup v1 and v2.

In: a path such as ``/kubepods.slice/…/cri-containerd-<id>.scope``, or ``/proc/<tgid>/cgroup``. Out: the container.

====================  =======================================================  =========================================
runtime               systemd driver                                           cgroupfs driver
====================  =======================================================  =========================================
Docker                ``/system.slice/docker-<id>.scope``                      ``/docker/<id>``
containerd (CRI)      ``…-pod<uid>.slice/cri-containerd-<id>.scope``           ``/kubepods/<qos>/pod<uid>/<id>``
CRI-O                 ``…-pod<uid>.slice/crio-<id>.scope``                     ``/kubepods/<qos>/pod<uid>/crio-<id>``
podman                ``/machine.slice/libpod-<id>.scope``                     ``/libpod_parent/libpod-<id>``
containerd, mixed     ``/system.slice/containerd.service/kubepods-…-pod<uid>.slice:cri-containerd:<id>``
====================  =======================================================  =========================================

Containers stand in one another (kind, Docker in Docker): the innermost is the one. crun and systemd make groups below
the container's own. In a private cgroup namespace a path begins with ``/../..``; nothing here looks at the prefix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from otel_ebpf.enrich.facts import ContainerFacts

_ID: Final = r"[0-9a-f]{64}|[0-9a-f]{32}-[0-9]{8,10}"  # the second form: AWS Fargate
_CONTAINER: Final = re.compile(rf"(?:^|[/:])(?:(?P<prefix>[a-z][a-z-]*)[-:])?(?P<id>{_ID})(?:\.scope)?$")
_POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./:]|$)")
_RUNTIMES: Final = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "nerdctl": "containerd",
}
# The monitors that CRI-O and podman run beside a container carry its id in their own group's name.
_MONITORS: Final = ("crio-conmon", "libpod-conmon")
_HIERARCHIES: Final = (b"", b"memory", b"pids", b"name=systemd", b"cpu", b"cpuacct", b"cpu,cpuacct", b"devices")
_DOCKER_CONFIG_MAX: Final = 1 << 20  # labels and environment of a container; a larger file is not read


def container_of(path: str) -> ContainerFacts | None:
    """Return the innermost container of a cgroup path, None when it is not inside one."""
    segments = path.split("/")
    for end in range(len(segments), 0, -1):
        found = _CONTAINER.search("/" + segments[end - 1])
        if found is None:
            continue
        if found["prefix"] in _MONITORS:
            return None
        parents = "/".join(segments[:end])
        return ContainerFacts(found["id"], _runtime(found["prefix"], segments[: end - 1]), _pod_uid(parents))
    return None


def _runtime(prefix: str | None, parents: list[str]) -> str | None:
    if prefix is not None:
        return _RUNTIMES.get(prefix)
    return "docker" if parents and parents[-1] == "docker" else None


def _pod_uid(path: str) -> str | None:
    found = _POD.findall(path)
    return found[-1].replace("_", "-") if found else None


def container_of_process(cgroup: bytes) -> ContainerFacts | None:
    """Return the container of a process from its ``/proc/<tgid>/cgroup`` (cgroups(7): ``id:controllers:path``).

    On a hybrid node the v2 line often says ``/`` while the v1 lines know; all are asked, the most telling first.
    """
    paths = dict(_hierarchies(cgroup))
    for controllers in _HIERARCHIES:
        found = container_of(paths.get(controllers, ""))
        if found is not None:
            return found
    return None


def _hierarchies(cgroup: bytes) -> Iterable[tuple[bytes, str]]:
    for line in cgroup.splitlines():
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        yield controllers, path.decode("utf-8", "replace")


def docker_name(state: Path, container_id: str) -> str | None:
    """Return the name Docker gave a container, None when Docker does not know it or may not be asked.

    Args:
        state: Docker's data root, ``/var/lib/docker``.
        container_id: 64 hexadecimal digits, checked by the caller: it becomes part of a path.
    """
    try:
        with state.joinpath("containers", container_id, "config.v2.json").open("rb") as file:
            name = json.loads(file.read(_DOCKER_CONFIG_MAX))["Name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name.strip("/") or None if isinstance(name, str) and name.isprintable() else None
