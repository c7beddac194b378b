"""The cgroup tree: containers by cgroup id, read again for new ids, but not too often."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_ebpf.clock import FixedClock
from otel_ebpf.enrich import cgroup_tree
from otel_ebpf.enrich.cgroup_tree import CgroupTree, directories, mount_of_ids
from otel_ebpf.enrich.facts import ContainerFacts
from otel_ebpf.enrich.live import LiveFacts

A: Final = "a" * 64
B: Final = "b" * 64
SECOND_NS: Final = 10**9


def group(root: Path, path: str) -> int:
    """Make a cgroup, and return its id."""
    (root / path).mkdir(parents=True)
    (root / path / "cgroup.procs").write_text("")
    return (root / path).stat().st_ino


def test_a_container_is_found_by_the_inode_of_its_directory(tmp_path: Path) -> None:
    """The id that the kernel takes is the inode number; groups below the container's own belong to it."""
    container = group(tmp_path, f"system.slice/docker-{A}.scope")
    below = group(tmp_path, f"system.slice/docker-{A}.scope/init")
    service = group(tmp_path, "system.slice/ssh.service")
    tree = CgroupTree(tmp_path, FixedClock())
    assert tree.container(container) == ContainerFacts(A, "docker")
    assert tree.container(below) == ContainerFacts(A, "docker")
    assert tree.container(service) is None


def test_a_new_container_is_found_by_reading_again(tmp_path: Path) -> None:
    """An id not seen before reads the tree again, after a pause that keeps the cost low."""
    clock = FixedClock(SECOND_NS)
    tree = CgroupTree(tmp_path, clock)
    first = group(tmp_path, f"docker/{A}")
    assert tree.container(first) == ContainerFacts(A, "docker")
    second = group(tmp_path, f"docker/{B}")
    assert tree.container(second) is None
    clock.advance(SECOND_NS)
    assert tree.container(second) == ContainerFacts(B, "docker")


def test_a_container_that_is_gone_is_remembered(tmp_path: Path) -> None:
    """Records of a container arrive after its end, and other ids make the tree be read again in between."""
    clock = FixedClock(SECOND_NS)
    tree = CgroupTree(tmp_path, clock)
    first = group(tmp_path, f"docker/{A}")
    tree.container(first)
    (tmp_path / "docker" / A / "cgroup.procs").unlink()
    (tmp_path / "docker" / A).rmdir()
    clock.advance(SECOND_NS)
    assert tree.container(999_999_999) is None
    assert tree.container(first) == ContainerFacts(A, "docker")


def test_the_root_and_the_unknown_are_no_containers(tmp_path: Path) -> None:
    """Id 1 is the root, 0 is unknown, and without a mount nothing is known; nothing is read for them."""
    tree = CgroupTree(tmp_path, FixedClock())
    container = group(tmp_path, f"docker/{A}")
    assert (tree.container(0), tree.container(1)) == (None, None)
    assert tree._next_scan_ns == 0
    assert CgroupTree(None, FixedClock()).container(container) is None


def test_a_known_service_does_not_make_it_read_again(tmp_path: Path) -> None:
    """Groups that are no containers are remembered as such: busy services cost nothing."""
    clock = FixedClock(SECOND_NS)
    service = group(tmp_path, "system.slice/ssh.service")
    tree = CgroupTree(tmp_path, clock)
    tree.container(service)
    after = tree._next_scan_ns
    clock.advance(SECOND_NS)
    tree.container(service)
    assert tree._next_scan_ns == after


def test_a_tree_without_end_is_read_in_part(tmp_path: Path) -> None:
    """Depth and number of directories are bounded."""
    path = tmp_path.joinpath(*["d"] * (cgroup_tree.MAX_DEPTH + 5))
    path.mkdir(parents=True)
    assert len(list(directories(tmp_path))) == cgroup_tree.MAX_DEPTH


def test_directories_that_vanish_are_passed_over(tmp_path: Path) -> None:
    """Groups are removed while the tree is read."""
    group(tmp_path, "a/b")
    found = directories(tmp_path)
    assert next(found)[1] == "/a"
    (tmp_path / "a/b/cgroup.procs").unlink()
    (tmp_path / "a/b").rmdir()
    (tmp_path / "a").rmdir() if not list((tmp_path / "a").iterdir()) else (tmp_path / "a/cgroup.procs").unlink()
    assert list(found) == []


V2 = b"31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    b"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
V1 = (
    b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    b"33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    b"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)


def test_the_hierarchy_of_ids_is_cgroup2_wherever_it_is_mounted() -> None:
    """On pure v1 it is the memory controller's, and without cgroups there is none."""
    assert mount_of_ids(V2) == Path("/sys/fs/cgroup")
    assert mount_of_ids(HYBRID) == Path("/sys/fs/cgroup/unified")
    assert mount_of_ids(V1) == Path("/sys/fs/cgroup/memory")
    assert mount_of_ids(b"1 2 3\n- -\n\n") is None


def live(tmp_path: Path, clock: FixedClock) -> LiveFacts:
    """Return live facts of a machine in a folder: its procfs, its cgroup mount, its Docker."""
    (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
    mount = tmp_path / "cgroup"
    mount.mkdir(exist_ok=True)
    (tmp_path / "proc/self/mountinfo").write_text(f"1 2 0:3 / {mount} rw - cgroup2 cgroup2 rw\n")
    return LiveFacts(clock, proc=tmp_path / "proc", docker=tmp_path / "docker")


def test_live_facts_name_a_docker_container(tmp_path: Path) -> None:
    """The id comes from the cgroup, the name from Docker's state; also when the process is gone."""
    state = tmp_path / "docker/containers" / A
    state.mkdir(parents=True)
    (state / "config.v2.json").write_text('{"Name": "/web"}')
    facts = live(tmp_path, FixedClock())
    number = group(tmp_path / "cgroup", f"system.slice/docker-{A}.scope")
    assert facts.container(number, 4711) == ContainerFacts(A, "docker", name="web")


def test_live_facts_ask_the_process_where_the_id_tells_nothing(tmp_path: Path) -> None:
    """With v1 controllers the v2 id is the root's: ``/proc/<tgid>/cgroup`` knows, and is remembered after the end."""
    facts = live(tmp_path, FixedClock())
    process = tmp_path / "proc/7"
    process.mkdir()
    (process / "cgroup").write_text(f"4:memory:/docker/{B}\n0::/\n")
    assert facts.container(1, 7) == ContainerFacts(B, "docker")
    (process / "cgroup").unlink()
    assert facts.container(1, 7) == ContainerFacts(B, "docker")
    assert facts.container(1, 8) is None
