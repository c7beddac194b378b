"""Where the agent cannot run, or not write: one clear sentence, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.kernel.watching import ANSWER
from tests.support.agent import agent_command
from tests.support.clients import Request, once
from tests.support.otlp import Telemetry
from tests.support.processes import Child
from tests.support.servers import Server, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SENTENCE: Final = re.compile(r"otel-ebpf: [^\n]+\n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers one request per connection."""
    with scripted(tmp_path / "server", [["head"], ["send", ANSWER], ["drain"]]) as found:
        yield found


def _ask(server: Server, path: str, times: int = 1) -> None:
    for _ in range(times):
        assert once(server.host, server.port, Request(b"GET", path.encode())).status == 200


def _run(
    *arguments: str, prefix: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, quietly unless *environment* says otherwise."""
    quiet = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [*prefix, *map(str, agent_command()), *arguments],
        env={**clean, **quiet, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


def _expect_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert that the command ended with *code* and one sentence that has the *words*, and nothing else."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert _SENTENCE.fullmatch(done.stderr), done.stderr
    for word in words:
        assert word in done.stderr


_HIDE_BTF: Final = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")
_HIDE_TRACEFS: Final = (
    "unshare", "-m", "sh", "-c",
    'for d in /sys/kernel/tracing /sys/kernel/debug; do [ -d $d ] && mount -t tmpfs none $d; done; exec "$@"', "sh",
)  # fmt: skip
_NO_CAPABILITIES: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
_NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


def test_without_btf() -> None:
    """Without BTF the agent says so and ends with 1; check says so, too, and gives JSON that says it."""
    _expect_sentence(_run("run", prefix=_HIDE_BTF), 1, "/sys/kernel/btf/vmlinux")
    checked = _run("check", "--json", prefix=_HIDE_BTF)
    report = json.loads(checked.stdout)
    assert (checked.returncode, report["can_run"], report["kernel"]["btf"]) == (1, False, False)
    assert "/sys/kernel/btf/vmlinux" in report["problem"]


def test_without_tracefs() -> None:
    """Without tracefs and debugfs everything works: no hook needs them."""
    report = json.loads(_run("check", "--json", prefix=_HIDE_TRACEFS).stdout)
    assert report["can_run"] is True
    assert report["kernel"]["tracefs"] is False
    assert {hook["state"] for hook in report["hooks"]} == {"on"}


@pytest.mark.parametrize("prefix", [_NO_CAPABILITIES, _NOBODY], ids=["no capabilities", "nobody"])
@pytest.mark.parametrize("command", ["run", "record"])
def test_without_privileges(tmp_path: Path, prefix: tuple[str, ...], command: str) -> None:
    """Without privileges the agent says what it needs and ends with 1, before it touches anything."""
    file = (str(tmp_path / "file"),) if command == "record" else ()
    _expect_sentence(_run(command, *file, prefix=prefix), 1, "root", "BPF", "PERFMON")
    assert list(tmp_path.iterdir()) == []
    assert _run("check", prefix=prefix).returncode == 1


def test_without_bcc(tmp_path: Path) -> None:
    """Without BCC the agent names the package that is missing, and ends with 1."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'bcc'\")\n")
    _expect_sentence(_run("run", environment={"PYTHONPATH": str(tmp_path)}), 1, "BCC", "python3-bpfcc")


_HOSTILE: Final = {
    "OTEL_EBPF_RING_SIZE": ("-1", "0", "1e999", "65537", "9" * 5000, "4 GiB of them", "\u0666\u0664KiB"),
    "OTEL_EBPF_MAX_FLOWS": ("nan", "63", "1048577", "0x100", "\x1b[31m64", "64\n65"),
    "OTEL_EBPF_OPEN_PORT": ("0", "65536", "80-", "-80", "90-80", "80;rm -rf /"),
    "OTEL_METRIC_EXPORT_INTERVAL": ("0", "-5", "inf", "1e400"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        "not a url",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://u:secret@h:99999",
    ),
    "OTEL_EBPF_PROBES_OFF": ("no.such.hook", "payload.", "../../x"),
    "OTEL_EBPF_ROUTES": ("x" * 100_000,),
    "OTEL_EBPF_NO_SUCH_SETTING": ("1",),
    "OTEL_TRACES_SAMPLER": ("always",),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_settings(name: str) -> None:
    """A setting with a hostile value is named with what is allowed, in one short line, and the agent ends with 2."""
    for value in _HOSTILE[name]:
        done = _run("run", "--duration", "1", environment={name: value})
        _expect_sentence(done, 2, name)
        assert len(done.stderr) < 600
        assert done.stderr.rstrip("\n").isprintable()
        assert "secret" not in done.stderr


def test_settings_that_are_no_text() -> None:
    """Bytes that are no UTF-8 in a setting's name or value are refused like any other, without a traceback."""
    environment = {os.fsencode(k): os.fsencode(v) for k, v in os.environ.items()}
    for key, value in ((b"OTEL_EBPF_PROFILE", b"\xff\xfe"), (b"OTEL_EBPF_\xff", b"1")):
        command = [*map(os.fsencode, agent_command()), b"run"]
        done = subprocess.run(command, env={**environment, key: value}, capture_output=True, timeout=30, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(b"otel-ebpf: OTEL_EBPF_")
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("path", ["/no/such/folder/out.jsonl", "/"])
def test_otlp_file_that_cannot_be_written(path: str) -> None:
    """A file that cannot be written is named, and the agent ends with 2."""
    environment = {"OTEL_METRICS_EXPORTER": "otlp_file", "OTEL_EBPF_OTLP_FILE": path, "OTEL_EBPF_LOG_LEVEL": "error"}
    _expect_sentence(_run("run", "--duration", "1", environment=environment), 2, "OTEL_EBPF_OTLP_FILE", path)


@pytest.mark.parametrize("path", ["/no/such/folder/file", "/", "/proc/version"])
def test_recording_that_cannot_be_written(path: str) -> None:
    """The same of a recording."""
    done = _run("record", path, "--duration", "1", environment={"OTEL_EBPF_LOG_LEVEL": "error"})
    _expect_sentence(done, 2, path)


def _small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """A prefix that runs a command where *folder* is a disk of that size, which nobody else sees."""
    folder.mkdir()
    return ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none {folder} && exec "$@"', "sh")


def test_disk_full(tmp_path: Path, server: Server) -> None:
    """On a full disk the agent says so once, goes on, ends with 0, and the file has whole lines only."""
    disk = tmp_path / "disk"
    settings = {
        "OTEL_METRICS_EXPORTER": "otlp_file",
        "OTEL_LOGS_EXPORTER": "otlp_file",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EBPF_EXCHANGE_LOGS": "all",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_EBPF_OTLP_FILE": str(disk / "out.jsonl"),
    }
    prefix = _small_disk(disk, "128k")
    command = [*prefix, *agent_command(), "run"]
    with Child(command, log=tmp_path / "agent.log", environment=settings) as child:
        child.wait_until(lambda: "capturing" in child.output(), "capturing", 20)
        inside = Path("/proc", str(child.pid), "root", str(disk / "out.jsonl").lstrip("/"))
        _ask(server, "/full", 50)
        child.wait_until(lambda: "No space left" in child.output(), "out of disk", 20)
        _ask(server, "/more", 50)
        time.sleep(1)
        text = inside.read_bytes().decode("utf-8")
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0, child.output()
        output = child.output()
    assert text.endswith("\n")
    Telemetry.of_lines(text.splitlines())
    assert "Traceback" not in output
    assert output.count("No space left") <= 2  # once for each signal


def test_recording_on_a_full_disk(tmp_path: Path, server: Server) -> None:
    """A recording that outgrows the disk ends with 2 and a sentence that says why."""
    disk = tmp_path / "disk"
    asking = threading.Thread(target=_keep_asking, args=(server,))
    asking.start()
    prefix = _small_disk(disk, "16k")
    done = _run("record", str(disk / "file"), "--duration", "8", prefix=prefix)
    asking.join(30)
    assert done.returncode == 2, done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def _keep_asking(server: Server) -> None:
    deadline = time.monotonic() + 7
    while time.monotonic() < deadline:
        _ask(server, "/recorded")
        time.sleep(0.01)
