"""How the agent begins and ends, what it leaves alone, and what it says when it cannot run."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from otel_ebpf.kernel import bpf
from tests.kernel.watching import ANSWER, both, watching
from tests.support.agent import agent_command, running_agent
from tests.support.clients import Request, once
from tests.support.otlp import Telemetry
from tests.support.processes import Child
from tests.support.servers import Server, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.collector import Collector

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_STEPS: Final = [["head"], ["send", ANSWER], ["drain"]]
_CAN_RUN_TEXT: Final = re.compile(r"otel-ebpf: [^\n]+\n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers one request per connection."""
    with scripted(tmp_path / "server", _STEPS) as found:
        yield found


def _ask(server: Server, path: str, times: int = 1) -> None:
    for _ in range(times):
        assert once(server.host, server.port, Request(b"GET", path.encode())).status == 200


def _paths(telemetry: Telemetry, server: Server) -> dict[str, list[str]]:
    """Paths asked of a server, as each role tells them."""
    ports = {"client": "network.peer.port", "server": "server.port"}
    return {
        role: [str(log.attributes["url.path"]) for log in telemetry.exchanges(role, **{port: server.port})]
        for role, port in ports.items()
    }


# -- beginning and end ------------------------------------------------------------------------------------------------

_NEXT_ID: Final = {"program": 11, "map": 12, "link": 31}  # enum bpf_cmd: BPF_*_GET_NEXT_ID
_HELD: Final = re.compile(r"^(prog|map|link)_id:\s*(\d+)$", re.MULTILINE)
_LONG: Final = {"prog": "program", "map": "map", "link": "link"}


def _objects() -> set[tuple[str, int]]:
    """All programs, maps and links that the kernel has, by kind and id."""
    return {(kind, number) for kind, command in _NEXT_ID.items() for number in _ids(command)}


def _ids(command: int) -> Iterator[int]:
    attributes = ctypes.create_string_buffer(12)
    while True:
        try:
            bpf.syscall("bpf", command, attributes, len(attributes))
        except OSError as error:
            assert error.errno == errno.ENOENT
            return
        number = struct.unpack_from("<I", attributes.raw, 4)[0]
        yield number
        struct.pack_into("<I", attributes, 0, number)


def _held_by(pid: str) -> set[tuple[str, int]]:
    """Programs, maps and links that the descriptors of a process hold."""
    found = set()
    for info in Path("/proc", pid, "fdinfo").iterdir():
        try:
            found |= {(_LONG[kind], int(number)) for kind, number in _HELD.findall(info.read_text(encoding="ascii"))}
        except OSError:  # closed meanwhile
            continue
    return found


def _held_by_anybody() -> set[tuple[str, int]]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found |= _held_by(entry.name)
            except OSError:  # ended meanwhile
                continue
    return found


def _left(candidates: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """What is left of them after a while: the kernel frees them behind a grace period."""
    deadline = time.monotonic() + 5
    while (left := candidates & _objects()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_nothing_is_left_after_sigkill(tmp_path: Path, server: Server) -> None:
    """An agent that is killed leaves no program, map or link behind, and the next one captures as if nothing had been."""
    before = _objects()
    with running_agent(tmp_path / "first") as first:
        mine = _held_by(str(first.child.pid))
        kinds = {kind for kind, _ in mine}
        first.child.send_signal(signal.SIGKILL)
        assert first.child.wait(5) == -signal.SIGKILL
    assert kinds == {"program", "map", "link"}
    assert _left(mine) == set()
    ownerless = _objects() - before - _held_by_anybody()
    assert _left(ownerless) == set()
    with watching(tmp_path / "second") as second:
        _ask(server, "/again")
        second.wait(lambda: len(second.logs(server.port)) == 2)
        assert second.exchanges(server.port) == both("GET", "/again", 200, 0, 2)
        second.finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, server: Server, number: signal.Signals) -> None:
    """The agent ends within two seconds of a signal, with 0, having sent everything, and leaves nothing attached."""
    with running_agent(tmp_path / "agent") as agent:
        mine = _held_by(str(agent.child.pid))
        _ask(server, "/last", 20)
        began = time.monotonic()
        agent.child.send_signal(number)
        assert agent.child.wait(10) == 0, agent.child.output()
        took_s = time.monotonic() - began
    assert took_s < 2
    assert "Traceback" not in agent.child.output()
    assert _paths(agent.telemetry(), server) == {"client": ["/last"] * 20, "server": ["/last"] * 20}
    assert len([span for span in agent.telemetry().spans if span.attributes.get("url.path") == "/last"]) == 40
    assert _left(mine) == set()


def test_a_signal_while_it_loads_ends_it(tmp_path: Path) -> None:
    """A signal before the agent captures ends it at once as well, without a traceback and with nothing attached."""
    environment = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}
    before = _objects()
    with Child([*agent_command(), "run"], log=tmp_path / "agent.log", environment=environment) as child:
        time.sleep(0.8)
        child.send_signal(signal.SIGTERM)
        child.wait(10)
        assert "Traceback" not in child.output()
    assert _left(_objects() - before - _held_by_anybody()) == set()


def test_two_agents_at_once(tmp_path: Path, server: Server) -> None:
    """Two agents on one machine see the same exchanges, each once, and end without harm to each other."""
    with watching(tmp_path / "one") as one, watching(tmp_path / "two") as two:
        _ask(server, "/both", 10)
        for watched in (one, two):
            watched.wait(lambda watched=watched: len(watched.logs(server.port)) == 20)
            assert watched.exchanges(server.port) == both("GET", "/both", 200, 0, 2, times=10)
        one.finish()
        _ask(server, "/rest", 10)
        two.wait(lambda: len(two.logs(server.port)) == 40)
        assert two.exchanges(server.port) == both("GET", "/both", 200, 0, 2, times=10) + both(
            "GET", "/rest", 200, 0, 2, times=10
        )
        two.finish()


# -- it only watches --------------------------------------------------------------------------------------------------

_INSTRUCTION: Final = struct.Struct("<BBhi")
_CALL: Final = 0x85  # BPF_JMP | BPF_CALL; with source register 0 of a helper
_PSEUDO_KINDS: Final = 0xF0  # source register: 0 is a helper
_READS: Final = frozenset(
    "bpf_get_current_cgroup_id bpf_get_current_pid_tgid bpf_get_current_task bpf_get_current_task_btf bpf_get_smp_processor_id "
    "bpf_ktime_get_ns bpf_probe_read_kernel bpf_probe_read_user bpf_skc_to_tcp_sock bpf_task_pt_regs "
    "bpf_ringbuf_discard bpf_ringbuf_output bpf_ringbuf_reserve bpf_ringbuf_submit bpf_seq_write".split()
)
"""What the programs call: helpers that read, and those that write to the agent's own ring and iterators."""
_OWN_MAPS: Final = re.compile(r"map_(lookup|update|delete)_elem$")


def _calls(program_id: int) -> set[str]:
    """Kernel functions that a loaded program calls, by name."""
    fd = bpf.syscall("bpf", 13, ctypes.create_string_buffer(struct.pack("<III", program_id, 0, 0), 12), 12)
    try:
        code = _instructions(fd)
    finally:
        os.close(fd)
    base, names = _symbols()
    rows = _INSTRUCTION.iter_unpack(code)
    return {names[base + imm] for op, registers, _, imm in rows if op == _CALL and not registers & _PSEUDO_KINDS}


def _instructions(fd: int) -> bytes:
    """The program's instructions as the kernel runs them (``struct bpf_prog_info``: xlated_prog_len, xlated_prog_insns)."""
    info = bytearray(bpf._info(fd, 216))
    length = struct.unpack_from("<I", info, 20)[0]
    room = ctypes.create_string_buffer(length)
    wanted = bytearray(216)
    struct.pack_into("<I", wanted, 20, length)
    struct.pack_into("<Q", wanted, 32, ctypes.addressof(room))
    buffer = ctypes.create_string_buffer(bytes(wanted), len(wanted))
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", fd, len(wanted), ctypes.addressof(buffer)), 16)
    bpf.syscall("bpf", bpf.Command.OBJ_GET_INFO_BY_FD, attributes, 16)
    return room.raw


def _symbols() -> tuple[int, dict[int, str]]:
    rows = (line.split()[:3] for line in Path("/proc/kallsyms").read_text(encoding="ascii").splitlines())
    names = {int(address, 16): name for address, _, name in rows}
    base = next(address for address, name in names.items() if name == "__bpf_call_base")
    return base, names


def test_no_loaded_program_can_change_anything(tmp_path: Path) -> None:
    """The programs call what reads, and what writes to the agent's own maps; nothing that could touch anybody else's."""
    with running_agent(tmp_path) as agent:
        programs = sorted(number for kind, number in _held_by(str(agent.child.pid)) if kind == "program")
        called = set().union(*(_calls(number) for number in programs))
    assert len(programs) >= 8
    assert "bpf_ringbuf_output" in called
    assert {name for name in called if not _OWN_MAPS.search(name)} <= _READS


def test_it_opens_no_memory_of_others(tmp_path: Path, server: Server) -> None:
    """The agent has no descriptor of another process's memory, and no raw or packet socket."""
    with running_agent(tmp_path) as agent:
        _ask(server, "/x", 5)
        time.sleep(0.5)
        folder = Path("/proc", str(agent.child.pid), "fd")
        targets = [os.readlink(link) for link in folder.iterdir()]
        sockets = {target[8:-1] for target in targets if target.startswith("socket:[")}
        packet = Path("/proc", str(agent.child.pid), "net/packet").read_text(encoding="ascii").split()
        raw = Path("/proc", str(agent.child.pid), "net/raw").read_text(encoding="ascii").split()
    assert not [target for target in targets if re.fullmatch(r"/proc/\d+/(mem|task/.*)", target)]
    assert not sockets & {*packet, *raw}


def _transfer(size: int) -> tuple[str, str, tuple[int, ...]]:
    """Digests of what each end received of random bytes in both directions, and what the sockets are like after."""
    data = random.Random(23).randbytes(size)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    received: dict[str, str] = {}

    def read(name: str, end: socket.socket) -> None:
        digest, left = hashlib.sha256(), size
        while left:
            part = end.recv(min(left, 65536))
            digest.update(part)
            left -= len(part)
        received[name] = digest.hexdigest()

    with client, server:
        readers = [threading.Thread(target=read, args=pair) for pair in (("client", client), ("server", server))]
        writers = [threading.Thread(target=end.sendall, args=(b"GET / HTTP/1.1\r\n\r\n" + data[18:],)) for end in (client, server)]
        for thread in (*readers, *writers):
            thread.start()
        for thread in (*readers, *writers):
            thread.join(30)
        options = tuple(
            end.getsockopt(level, option)
            for end in (client, server)
            for level, option in (
                (socket.SOL_SOCKET, socket.SO_ERROR),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.SOL_SOCKET, socket.SO_MARK),
                (socket.SOL_SOCKET, socket.SO_PRIORITY),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.IPPROTO_TCP, socket.TCP_MAXSEG),
                (socket.IPPROTO_TCP, socket.TCP_QUICKACK),
            )
        )
    return received["client"], received["server"], options


def test_what_is_transferred_is_the_same_with_the_agent(tmp_path: Path) -> None:
    """Every byte arrives unchanged in both directions, and the sockets' options are the same, agent or not."""
    without = _transfer(8 << 20)
    with running_agent(tmp_path):
        watched = _transfer(8 << 20)
    assert watched == without
    assert watched[0] == watched[1] == hashlib.sha256(b"GET / HTTP/1.1\r\n\r\n" + random.Random(23).randbytes(8 << 20)[18:]).hexdigest()


def test_own_traffic_is_not_watched(tmp_path: Path, collector: Collector, server: Server) -> None:
    """Neither the agent's exports nor the Collector that takes them are told of, while everybody else is."""
    endpoint = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }
    with running_agent(tmp_path / "agent", endpoint) as agent:
        for _ in range(5):
            _ask(server, "/other")
            time.sleep(0.5)
        assert agent.stop() == 0
    collector.stop()
    telemetry = collector.telemetry()
    assert _paths(telemetry, server) == {"client": ["/other"] * 5, "server": ["/other"] * 5}
    ports = {collector.http_port, collector.grpc_port}
    assert not [log for log in telemetry.logs if {log.attributes.get("server.port"), log.attributes.get("network.peer.port")} & ports]
    assert not [point for point in telemetry.points if point.attributes.get("server.port") in ports]


# -- where it cannot run ----------------------------------------------------------------------------------------------


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
    assert _CAN_RUN_TEXT.fullmatch(done.stderr), done.stderr
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
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("not a url", "file:///etc/passwd", "http://", "http://[::1", "http://u:secret@h:99999"),
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


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[tuple[str, ...]]:
    """A prefix that runs a command where *folder* is a disk of that size, which nobody else sees."""
    folder.mkdir()
    yield ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none {folder} && exec "$@"', "sh")


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
    with _small_disk(disk, "128k") as prefix:
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
    with _small_disk(disk, "16k") as prefix:
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
