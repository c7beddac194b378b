"""Processes: names by process id, as long as they live and after; ids that are used again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_ebpf.enrich.facts import ProcessFacts
from otel_ebpf.enrich.process import MAX_PROCESSES, ROOT_PID_NAMESPACE, Processes, in_root_pid_namespace, start_ticks


class Proc:
    """A procfs in a folder, with the processes a test puts in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, tgid: int, comm: str, exe: str | None, started: int) -> None:
        """Put in, or replace, a process."""
        folder = self.root / str(tgid)
        folder.mkdir(exist_ok=True)
        fields = " ".join(["S", *["0"] * 18, str(started), "0", "0"])
        (folder / "stat").write_text(f"{tgid} ({comm}) {fields}\n")
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "exe").unlink(missing_ok=True)
        if exe is not None:
            (folder / "exe").symlink_to(exe)

    def end(self, tgid: int) -> None:
        """Let a process end."""
        for path in (self.root / str(tgid)).iterdir():
            path.unlink()
        (self.root / str(tgid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """Return an empty procfs."""
    return Proc(tmp_path)


@pytest.fixture
def processes(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Return what is tested, reading that procfs as if it showed the root pid namespace."""
    monkeypatch.setattr("otel_ebpf.enrich.process.in_root_pid_namespace", lambda _: True)
    return Processes(proc.root)


NGINX = ProcessFacts("nginx", "/usr/sbin/nginx")


def test_a_process_is_named_by_its_executable(proc: Proc, processes: Processes) -> None:
    """Name and path come from the link of the executable."""
    proc.put(7, "nginx", "/usr/sbin/nginx", 100)
    assert processes.facts(7, b"nginx") == NGINX


def test_a_replaced_executable_keeps_its_name(proc: Proc, processes: Processes) -> None:
    """After an upgrade the kernel says that the file was deleted; the name does not."""
    proc.put(7, "nginx", "/usr/sbin/nginx (deleted)", 100)
    assert processes.facts(7, b"nginx") == NGINX


def test_a_process_that_has_ended_keeps_its_name(proc: Proc, processes: Processes) -> None:
    """Records come after the end; the answer given before stands."""
    proc.put(7, "nginx: worker", "/usr/sbin/nginx", 100)
    processes.facts(7, b"nginx: worker")
    proc.end(7)
    assert processes.facts(7, b"nginx: worker") == NGINX


def test_a_process_never_seen_alive_is_named_like_the_last_of_its_comm(proc: Proc, processes: Processes) -> None:
    """Short-lived processes come in rows; where none could be asked, the comm is the name."""
    assert processes.facts(9, b"curl") == ProcessFacts("curl")
    proc.put(7, "curl", "/usr/bin/curl", 100)
    processes.facts(7, b"curl")
    assert processes.facts(9, b"curl") == ProcessFacts("curl", "/usr/bin/curl")


def test_a_process_id_that_is_used_again_is_another_process(proc: Proc, processes: Processes) -> None:
    """A new start time makes the answer anew; records of the old process are not named after the new one."""
    proc.put(7, "nginx", "/usr/sbin/nginx", 100)
    assert processes.facts(7, b"nginx") == NGINX
    proc.end(7)
    proc.put(7, "redis", "/usr/bin/redis-server", 200)
    assert processes.facts(7, b"nginx") == NGINX
    assert processes.facts(7, b"redis") == ProcessFacts("redis-server", "/usr/bin/redis-server")


def test_a_reused_id_of_an_unknown_process_is_not_taken_for_it(proc: Proc, processes: Processes) -> None:
    """What the kernel saw was called otherwise: the comm is believed."""
    proc.put(7, "redis", "/usr/bin/redis-server", 200)
    assert processes.facts(7, b"worker") == ProcessFacts("worker")


def test_a_process_that_renamed_itself_is_still_its_executable(proc: Proc, processes: Processes) -> None:
    """Its old comm is the beginning of the executable's name: the same process."""
    proc.put(7, "gunicorn: main", "/usr/bin/python3.11", 100)
    assert processes.facts(7, b"python3") == ProcessFacts("python3.11", "/usr/bin/python3.11")


def test_an_executable_that_may_not_be_read_leaves_the_comm(proc: Proc, processes: Processes) -> None:
    """Without SYS_PTRACE, and for kernel threads, the comm is all there is."""
    proc.put(7, "kworker/0:1", None, 1)
    assert processes.facts(7, b"kworker/0:1") == ProcessFacts("kworker/0:1")


def test_a_name_with_brackets_and_spaces_does_not_hide_the_start_time(proc: Proc) -> None:
    """Field 2 of stat may hold anything, a bracket and a newline too."""
    proc.put(7, ") S 0 (x\n", None, 4711)
    assert start_ticks(proc.root, 7) == 4711
    assert start_ticks(proc.root, 8) is None


def test_names_that_cannot_be_shown_are_shown_safely(processes: Processes) -> None:
    """A process may call itself anything."""
    assert processes.facts(9, b"a\x1b[2J\xff") == ProcessFacts("a?[2J\ufffd")
    assert processes.facts(0, b"") == ProcessFacts("")


def test_the_cache_is_bounded(proc: Proc, processes: Processes) -> None:
    """However many processes come, the least recently used ones are forgotten."""
    proc.put(1, "x", "/bin/x", 1)
    for number in range(2, MAX_PROCESSES + 10):
        (proc.root / str(number)).symlink_to("1")
        processes.facts(number, b"x")
    assert len(processes._known) == MAX_PROCESSES


def test_in_another_pid_namespace_numbers_mean_nothing(proc: Proc) -> None:
    """An agent that cannot see the host's processes names by comm instead of naming a stranger."""
    proc.put(7, "nginx", "/usr/sbin/nginx", 100)
    assert not in_root_pid_namespace(proc.root)
    assert Processes(proc.root).facts(7, b"web") == ProcessFacts("web")


def test_this_process_is_found_in_the_real_procfs() -> None:
    """The running interpreter is named by its executable where the root pid namespace is visible."""
    root = Path("/proc")
    comm = (root / "self/comm").read_bytes().rstrip(b"\n")
    found = Processes(root).facts(os.getpid(), comm)
    visible = (root / "self/ns/pid").stat().st_ino == ROOT_PID_NAMESPACE
    expected = str((root / "self/exe").readlink()) if visible else None
    assert found.executable == expected
