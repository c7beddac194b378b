"""Containers from cgroup paths: the layouts of runtimes as they stand on real nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.enrich.container import container_of, container_of_process, docker_name
from otel_ebpf.enrich.facts import ContainerFacts

A: Final = "3f4a8c0b1d2e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
B: Final = "0011223344556677889900aabbccddeeff0011223344556677889900aabbccdd"
UID: Final = "6a2c1b7e-9f1d-4f8e-8a35-0c4f2f1f8d11"
UNDERSCORED: Final = UID.replace("-", "_")
STATIC: Final = "8b1f6c6a9b4f0e0a2c7d5e3f1a9b8c7d"

PATHS: Final = [
    # Docker
    (f"/docker/{A}", ContainerFacts(A, "docker")),
    (f"/system.slice/docker-{A}.scope", ContainerFacts(A, "docker")),
    (f"/user.slice/user-1000.slice/user@1000.service/docker-{A}.scope", ContainerFacts(A, "docker")),
    (f"/docker/{A}/system.slice/nginx.service", ContainerFacts(A, "docker")),
    (f"/docker/{A}/init", ContainerFacts(A, "docker")),
    # Docker as Kubernetes' runtime
    (f"/kubepods/besteffort/pod{UID}/{A}", ContainerFacts(A, None, UID)),
    (
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/docker-{A}.scope",
        ContainerFacts(A, "docker", UID),
    ),
    # containerd
    (
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
        ContainerFacts(A, "containerd", UID),
    ),
    (
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
        ContainerFacts(A, "containerd", UID),
    ),
    (
        f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDERSCORED}.slice:cri-containerd:{A}",
        ContainerFacts(A, "containerd", UID),
    ),
    (f"/kubepods/burstable/pod{STATIC}/{A}", ContainerFacts(A, None, STATIC)),
    (f"/default/{A}", ContainerFacts(A)),
    (f"/system.slice/nerdctl-{A}.scope", ContainerFacts(A, "containerd")),
    # CRI-O
    (
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{A}.scope",
        ContainerFacts(A, "cri-o", UID),
    ),
    (
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{A}.scope/container",
        ContainerFacts(A, "cri-o", UID),
    ),
    (f"/kubepods/besteffort/pod{UID}/crio-{A}", ContainerFacts(A, "cri-o", UID)),
    # podman
    (f"/machine.slice/libpod-{A}.scope", ContainerFacts(A, "podman")),
    (f"/machine.slice/libpod-{A}.scope/container", ContainerFacts(A, "podman")),
    (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope", ContainerFacts(A, "podman")),
    (f"/libpod_parent/libpod-{A}", ContainerFacts(A, "podman")),
    (f"/system.slice/web.service/libpod-payload-{A}", ContainerFacts(A, "podman")),
    # containers in containers: kind, Docker in Docker
    (
        (
            f"/system.slice/docker-{A}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
            f"kubelet-kubepods-besteffort-pod{UNDERSCORED}.slice/cri-containerd-{B}.scope"
        ),
        ContainerFacts(B, "containerd", UID),
    ),
    (f"/docker/{A}/kubelet/kubepods/burstable/pod{UID}/{B}", ContainerFacts(B, None, UID)),
    (f"/docker/{A}/docker/{B}", ContainerFacts(B, "docker")),
    # a private cgroup namespace
    (
        f"/../../../kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
        ContainerFacts(A, "containerd", UID),
    ),
    (f"/../{A}", ContainerFacts(A)),
    # AWS: tasks on machines and on Fargate
    (f"/ecs/task/4a5b/{A}", ContainerFacts(A)),
    (f"/ecs/{STATIC}/{STATIC}-1234567890", ContainerFacts(f"{STATIC}-1234567890")),
]


@pytest.mark.parametrize(("path", "expected"), PATHS)
def test_every_layout_names_its_container(path: str, expected: ContainerFacts) -> None:
    """Id, runtime and pod come from the path, of the innermost container."""
    assert container_of(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/init.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-conmon-{A}.scope",
        f"/machine.slice/libpod-conmon-{A}.scope",
        f"/docker/{A[:63]}",
        f"/docker/{A}0",
        f"/docker/{A.upper()}",
        f"/process_api/{STATIC}",
        f"/lxc/{A[:40]}",
    ],
)
def test_what_is_no_container_is_none(path: str) -> None:
    """Services, sessions, pods' own groups, runtimes and their monitors are not containers."""
    assert container_of(path) is None


@given(st.text(max_size=300))
def test_any_path_gives_a_container_or_none(path: str) -> None:
    """A container is found only where its id stands in the path."""
    found = container_of(path)
    assert found is None or found.id in path


V1 = f"""12:pids:/kubepods/burstable/pod{UID}/{A}
11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{A}
4:memory:/kubepods/burstable/pod{UID}/{A}
1:name=systemd:/kubepods/burstable/pod{UID}/{A}
"""
HYBRID = f"""9:name=systemd:/docker/{A}
8:pids:/docker/{A}
4:memory:/docker/{A}
0::/
"""
HYBRID_SYSTEMD = f"""5:memory:/system.slice/docker-{A}.scope
1:name=systemd:/system.slice/docker-{A}.scope
0::/system.slice/docker-{A}.scope
"""
V2 = f"0::/system.slice/docker-{A}.scope\n"
PRIVATE = f"0::/../../cri-containerd-{B}.scope\n"
SYSTEMD_ONLY = f"2:cpu:/\n1:name=systemd:/docker/{A}\n"


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (V1, ContainerFacts(A, None, UID)),
        (HYBRID, ContainerFacts(A, "docker")),
        (HYBRID_SYSTEMD, ContainerFacts(A, "docker")),
        (V2, ContainerFacts(A, "docker")),
        (PRIVATE, ContainerFacts(B, "containerd")),
        (SYSTEMD_ONLY, ContainerFacts(A, "docker")),
        ("0::/\n", None),
        ("9:name=systemd:/\n4:memory:/process_api/d9b69b4501abf3389ddbad136d96e7fb\n0::/\n", None),
        ("", None),
        ("nonsense\n::\n", None),
    ],
)
def test_a_process_is_placed_by_whichever_hierarchy_knows(cgroup: str, expected: ContainerFacts | None) -> None:
    """``/proc/<tgid>/cgroup`` of v1, v2 and hybrid nodes gives the same answer."""
    assert container_of_process(cgroup.encode()) == expected


@given(st.binary(max_size=400))
def test_any_cgroup_file_is_read(cgroup: bytes) -> None:
    """No content makes an exception."""
    container_of_process(cgroup)


def test_docker_knows_its_containers_by_name(tmp_path: Path) -> None:
    """The name comes from Docker's own state, without its leading slash."""
    folder = tmp_path / "containers" / A
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text(json.dumps({"ID": A, "Name": "/shop-web-1", "Config": {"Env": []}}))
    assert docker_name(tmp_path, A) == "shop-web-1"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"{", b'{"Name": 3}', b'{"Name": "/"}', b'{"Name": "a\\u0007b"}', b"\xff"]
)
def test_docker_state_that_is_not_understood_gives_no_name(tmp_path: Path, content: bytes) -> None:
    """Broken, hostile or absent state is no name, never an exception."""
    folder = tmp_path / "containers" / A
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_bytes(content)
    assert docker_name(tmp_path, A) is None
    assert docker_name(tmp_path, B) is None
