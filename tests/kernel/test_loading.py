"""Loading on the running kernel: from BTF to attached programs, with every refusal and failure told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from otel_ebpf.errors import CannotRun, SettingError
from otel_ebpf.kernel import bpf, slices
from otel_ebpf.kernel.btf import Btf
from otel_ebpf.kernel.btf import Kind as TypeKind
from otel_ebpf.kernel.handover import Loaded, LoadRequest, load
from otel_ebpf.kernel.iterators import read_iterator, read_link
from otel_ebpf.kernel.layout import bpf_directory, records_in
from otel_ebpf.kernel.maps import CounterArray
from otel_ebpf.kernel.probes import PROBES, Alternative, Attachment, Failure, Hook, Kind, State
from otel_ebpf.kernel.ring import Ring
from otel_ebpf.kernel.slice_table import TABLE
from tests.support.slices import layout_assertions, run_c

if TYPE_CHECKING:
    from collections.abc import Iterator

EXEC_EVENT: Final = struct.Struct("<III16s")
FILE_ROW: Final = struct.Struct("<IIIHHBB2x")
TABLE_ROW: Final = struct.Struct("<QI4x")

TP_BTF: Final = Alternative("tp_btf", (Attachment(Kind.TP_BTF, "sched_process_exec", "on_exec"),))
RAW_TP: Final = Alternative("raw_tp", (Attachment(Kind.RAW_TP, "sched_process_exec", "on_exec_raw"),))
BROKEN: Final = Alternative(
    "broken",
    (
        Attachment(Kind.RAW_TP, "sched_process_exec", "on_exec_broken"),
        Attachment(Kind.TP_BTF, "sched_process_exec", "on_exec_broken"),
    ),
)
FILES: Final = Hook("files", "", "files", (Alternative("iter", (Attachment(Kind.ITER, "task_file", "on_each_file"),)),))
ENTRIES: Final = Hook(
    "entries", "", "entries", (Alternative("iter", (Attachment(Kind.ITER, "bpf_map_elem", "on_each_entry"),)),)
)


def exec_hook(*alternatives: Alternative) -> Hook:
    """The hook of programs that are executed, with these ways to serve it."""
    return Hook("exec", "programs that are executed", "nothing is known of them", alternatives)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test programs beside the product's stub headers."""
    folder = tmp_path_factory.mktemp("bpf") / "sources"
    shutil.copytree(Path(__file__).parent / "programs", folder)
    shutil.copytree(str(bpf_directory().joinpath("stub")), folder / "stub")
    return folder


@pytest.fixture(scope="module")
def loaded(sources: Path) -> Iterator[Loaded]:
    """Everything that the test programs can do, attached."""
    with load(LoadRequest(str(sources), main="loading.c", hooks=(exec_hook(TP_BTF), FILES, ENTRIES))) as one:
        yield one


def run_true() -> int:
    """Execute a program that ends at once; return its process id."""
    with subprocess.Popen(["/bin/true"]) as process:
        return process.pid


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_table_matches_the_running_kernel(tmp_path: Path) -> None:
    """A C compiler lays every slice of the product's table out as BTF says this kernel does."""
    rendered = slices.render(Btf.load(), TABLE)
    run_c(rendered, layout_assertions(TABLE, rendered) + "int main(void) { return 0; }", tmp_path)


def test_a_program_reads_the_kernel_rightly(loaded: Loaded) -> None:
    """The executed program's ids and name arrive in the ring exactly as the parent knows them."""
    with Ring(loaded.maps["events"], bpf.map_info(loaded.maps["events"]).max_entries) as ring:
        ring.take()
        pids = [run_true() for _ in range(3)]
        span = ring.take()
        assert ring.take() == b""
        assert ring.fill_ratio() == 0.0
    events = [EXEC_EVENT.unpack_from(span, at) for at, _ in records_in(span)]
    assert [event for event in events if event[0] in pids] == [
        (pid, pid, pid, b"true".ljust(16, b"\0")) for pid in pids
    ]


def test_counters_are_summed_over_cpus(loaded: Loaded) -> None:
    """Each executed program counts once, on whichever CPU it ran."""
    counters = CounterArray(loaded.maps["counters"])
    before = counters.totals()
    for _ in range(5):
        run_true()
    after = counters.totals()
    assert len(after) == 4
    assert after[0] - before[0] >= 5
    assert after[1:] == (0, 0, 0)


def test_an_iterator_finds_the_sockets_of_this_process(loaded: Loaded) -> None:
    """Walking all files of all tasks finds this listener, with its descriptor, port, state and network namespace."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = read_iterator(loaded.programs["on_each_file"])
        rows = list(FILE_ROW.iter_unpack(raw))
        netns = Path("/proc/self/ns/net").stat().st_ino
        expected = (os.getpid(), listener.fileno(), netns, listener.getsockname()[1], socket.AF_INET, 10, 0)
    assert expected in rows


def test_an_iterator_walks_a_map(loaded: Loaded) -> None:
    """Every entry of a map comes once, also when there are more than one read holds; the link can be read again."""
    table = loaded.maps["table"]
    wanted = {key: key * key for key in range(4000)}
    for key, value in wanted.items():
        bpf.update(table, struct.pack("<I", key), struct.pack("<Q", value))
    link = bpf.create_iterator_link(loaded.programs["on_each_entry"], table)
    try:
        for _ in range(2):
            rows = [(key, value) for value, key in TABLE_ROW.iter_unpack(read_link(link))]
            assert len(rows) == len(wanted)
            assert dict(rows) == wanted
    finally:
        os.close(link)


def test_reads_a_map_by_key_and_by_batches(loaded: Loaded) -> None:
    """Entries are found, replaced and removed by key; batches give all of them, once."""
    table = loaded.maps["table"]
    key = struct.pack("<I", 7)
    bpf.update(table, key, struct.pack("<Q", 1))
    bpf.update(table, key, struct.pack("<Q", 2))
    assert bpf.lookup(table, key, 8) == struct.pack("<Q", 2)
    batches = list(bpf.lookup_batches(table, 4, 8, 100))
    keys = [key for keys, _ in batches for (key,) in struct.iter_unpack("<I", keys)]
    values = [value for _, values in batches for (value,) in struct.iter_unpack("<Q", values)]
    assert len(keys) == len(set(keys))
    assert dict(zip(keys, values, strict=True))[7] == 2
    assert bpf.delete(table, key)
    assert not bpf.delete(table, key)
    assert bpf.lookup(table, key, 8) is None


def test_maps_tell_their_shape(loaded: Loaded) -> None:
    """Name, key, value and capacity of a map come from the kernel."""
    info = bpf.map_info(loaded.maps["table"])
    assert (info.name, info.type, info.key_size, info.value_size, info.max_entries) == ("table", 1, 4, 8, 4096)


def test_programs_tell_what_they_cost(loaded: Loaded) -> None:
    """With statistics on, the kernel counts the runs of a program and their time."""
    program = loaded.programs["on_exec"]
    statistics = bpf.enable_stats()
    try:
        before = bpf.program_info(program)
        run_true()
        after = bpf.program_info(program)
    finally:
        os.close(statistics)
    assert after.name == "on_exec"
    assert after.run_count - before.run_count >= 1
    assert after.run_time_ns > before.run_time_ns
    assert after.recursion_misses == 0


def test_the_report_has_a_row_per_hook(loaded: Loaded) -> None:
    """What is on is said, in the order of the table, and the slices' findings come along."""
    assert [(row.hook, row.state, row.chosen, row.failures) for row in loaded.report] == [
        ("exec", State.ON, "tp_btf", ()),
        ("files", State.ON, "iter", ()),
        ("entries", State.ON, "iter", ()),
    ]
    assert loaded.macros["HAVE_TP_sched_process_exec"] == 1


def test_an_alternative_that_fails_makes_way_with_the_kernels_answer(sources: Path) -> None:
    """Missing, refused by the kernel, refused by the verifier: each is told, and the first one that holds is on."""
    hook = exec_hook(
        Alternative("required", TP_BTF.attachments, requires=("HAVE_TP_absent", "HAVE_ENUM_BPF_FUNC_magic")),
        Alternative("tracepoint", (Attachment(Kind.TP_BTF, "absent", "on_exec"),)),
        Alternative("fentry", (*TP_BTF.attachments, Attachment(Kind.FENTRY, "absent_function", "on_exec"))),
        Alternative("raw", (Attachment(Kind.RAW_TP, "absent", "on_exec_raw"),)),
        Alternative("kprobe", (Attachment(Kind.KPROBE, "absent_function", "on_exec_raw"),)),
        BROKEN,
        Alternative("missing", (Attachment(Kind.RAW_TP, "sched_process_exec", "not_written"),)),
        RAW_TP,
        TP_BTF,
    )
    with load(LoadRequest(str(sources), main="loading.c", hooks=(hook,))) as one:
        (row,) = one.report
        before = CounterArray(one.maps["counters"]).totals()[1]
        run_true()
        assert CounterArray(one.maps["counters"]).totals()[1] > before
        assert list(one.programs) == ["on_exec_raw"]
    assert (row.state, row.chosen) == (State.ON, "raw_tp")
    answers = {failure.alternative: failure.answer for failure in row.failures}
    assert answers["required"] == "this kernel has no tracepoint absent, no helper bpf_magic"
    assert answers["tracepoint"] == "this kernel has no tracepoint absent"
    assert answers["fentry"] == "this kernel has no function absent_function"
    assert answers["raw"] == "raw_tp absent: not attached: ENOENT, No such file or directory"
    assert answers["kprobe"].startswith("kprobe absent_function: not attached: ")
    assert answers["broken"].startswith("raw_tp sched_process_exec: not loaded: EACCES, Permission denied\n")
    assert "invalid mem access" in answers["broken"]
    assert len(answers["broken"]) < 1000
    assert answers["missing"] == "not_written was not compiled: this kernel lacks what it needs"
    assert list(answers) == ["required", "tracepoint", "fentry", "raw", "kprobe", "broken", "missing"]


def test_a_hook_that_nothing_serves_is_off_and_the_others_stay(sources: Path) -> None:
    """No hook is mandatory: the rest is attached, and the row says what is lost."""
    hooks = (exec_hook(BROKEN), FILES)
    with load(LoadRequest(str(sources), main="loading.c", hooks=hooks)) as one:
        assert [(row.state, row.lost) for row in one.report] == [
            (State.OFF, "nothing is known of them"),
            (State.ON, ""),
        ]
        assert list(one.programs) == ["on_each_file"]
        assert one.links == []


def test_switched_off_probes_are_not_loaded(sources: Path) -> None:
    """The user's switches hold for hooks and for single alternatives; a name that does not exist is an error."""
    hooks = (exec_hook(TP_BTF, RAW_TP), FILES)
    off = ("files", "exec.tp_btf")
    with load(LoadRequest(str(sources), main="loading.c", hooks=hooks, probes_off=off)) as one:
        assert [(row.state, row.chosen) for row in one.report] == [(State.ON, "raw_tp"), (State.DISABLED, None)]
        assert one.report[0].failures == (Failure("tp_btf", "switched off by a setting"),)
        assert list(one.programs) == ["on_exec_raw"]
    with pytest.raises(SettingError, match="there is no probe 'exce'"):
        load(LoadRequest(str(sources), main="loading.c", hooks=hooks, probes_off=("exce",)))


def test_a_function_may_serve_many_places(sources: Path) -> None:
    """More descriptors than one message carries arrive all, each program with a name of its own."""
    many = tuple(Attachment(Kind.ITER, "task_file", "on_each_file") for _ in range(300))
    with load(
        LoadRequest(str(sources), main="loading.c", hooks=(Hook("many", "", "", (Alternative("x", many),)),))
    ) as one:
        assert len(one.programs) == 300
        assert len(set(one.programs.values())) == 300
        assert {"on_each_file", "on_each_file@2", "on_each_file@300"} <= one.programs.keys()
        assert bpf.program_info(one.programs["on_each_file@300"]).name == "on_each_file"


def gone(program_id: int, within_s: float = 5.0) -> bool:
    """Whether a program is unloaded; the kernel does that a moment after the last descriptor is closed."""
    deadline = time.monotonic() + within_s
    while program_id in set(bpf.program_ids()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_closing_detaches_everything(sources: Path) -> None:
    """When the descriptors are closed the kernel has no program of ours, and this process no descriptor more."""
    before = open_descriptors()
    with load(LoadRequest(str(sources), main="loading.c", hooks=(exec_hook(TP_BTF), FILES))) as one:
        ids = [bpf.program_info(fd).id for fd in one.programs.values()]
        assert set(ids) <= set(bpf.program_ids())
    assert all(map(gone, ids))
    assert open_descriptors() == before
    one.close()


HOLDER: Final = """
    import os, sys
    from otel_ebpf.kernel import bpf
    from otel_ebpf.kernel.handover import LoadRequest, load
    from otel_ebpf.kernel.probes import Alternative, Attachment, Hook, Kind
    hook = Hook("exec", "", "", (Alternative("tp_btf", (Attachment(Kind.TP_BTF, "sched_process_exec", "on_exec"),)),))
    loaded = load(LoadRequest(sys.argv[1], main="loading.c", hooks=(hook,)))
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    compiler = any(name in open("/proc/self/maps").read() for name in ("libbcc", "libLLVM", "libclang"))
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    program = bpf.program_info(loaded.programs["on_exec"]).id
    print(program, int(status["VmRSS"].split()[0]), compiler, len(children), flush=True)
    print(loaded.cost.wall_s, loaded.cost.cpu_s, loaded.cost.peak_rss_bytes, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(sources: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded the programs and does nothing but hold them."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(sources)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_the_compiler_is_gone_when_loading_is_done(holder: subprocess.Popen[str]) -> None:
    """The process that holds the programs has no compiler in memory, no child, and stays small; the cost is told."""
    assert holder.stdout
    _, resident_kib, compiler, children = holder.stdout.readline().split()
    wall_s, cpu_s, peak = map(float, holder.stdout.readline().split())
    assert (compiler, children) == ("False", "0")
    assert int(resident_kib) < 40 << 10
    assert wall_s > 0
    assert cpu_s > 0
    assert 50e6 < peak < 300e6


def test_a_killed_holder_leaves_nothing_attached(holder: subprocess.Popen[str]) -> None:
    """Nothing is pinned: when the process is killed, the kernel detaches and unloads by itself."""
    assert holder.stdout
    program = int(holder.stdout.readline().split()[0])
    assert program in set(bpf.program_ids())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert gone(program)


# -- what can go wrong -----------------------------------------------------------------------------------------------


def refusal(sources: Path, main: str = "loading.c", timeout_s: float = 30.0) -> str:
    """Load, and return the sentence that it fails with; nothing may stay open."""
    before = open_descriptors()
    with pytest.raises(CannotRun) as caught:
        load(LoadRequest(str(sources), main=main, hooks=(FILES,)), timeout_s)
    assert open_descriptors() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_error_in_the_c_is_told_with_its_true_place(sources: Path) -> None:
    """A program that does not compile is one sentence with file, line and column."""
    assert refusal(sources, "error.c") == (
        "the kernel programs do not compile: error.c:6:9: error: use of undeclared identifier 'undeclared'"
    )


def test_an_incomplete_installation_is_told(tmp_path: Path, sources: Path) -> None:
    """Missing sources and missing stub headers are named."""
    assert refusal(sources, "absent.c") == "absent.c: no such file"
    shutil.copy(sources / "loading.c", tmp_path)
    shutil.copy(sources / "loading.h", tmp_path)
    assert refusal(tmp_path) == f"{tmp_path}/stub is missing: otel-ebpf is not installed completely"


@pytest.fixture
def other_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``bcc`` that the child finds before the real one; the test writes what it does."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "libbcc.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "bcc" / "__init__.py"


def test_a_child_that_cannot_start_is_told(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is gone, as while the package is replaced, is told with its path."""
    monkeypatch.setattr(sys, "executable", "/gone/python")
    assert refusal(sources) == "the compile process cannot be started: No such file or directory: /gone/python"


def test_missing_bcc_is_told(other_bcc: Path, sources: Path) -> None:
    """Without BCC the sentence names the package to install."""
    other_bcc.write_text("raise ImportError('libbcc.so.0: cannot open shared object file')")
    assert refusal(sources) == ("BCC is missing (Debian: python3-bpfcc): libbcc.so.0: cannot open shared object file")


def test_a_child_that_is_killed_is_told(other_bcc: Path, sources: Path) -> None:
    """A compiler that is killed, as by the kernel when memory is short, is told with the signal."""
    other_bcc.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert refusal(sources) == "the process that compiles the kernel programs was ended by SIGKILL"


def test_a_child_that_breaks_is_told(other_bcc: Path, sources: Path) -> None:
    """An accident inside the child is told with its last line."""
    other_bcc.write_text("raise RuntimeError('odd')")
    assert refusal(sources) == ("the process that compiles the kernel programs ended with code 1: RuntimeError: odd")


def test_a_child_that_hangs_is_given_up(other_bcc: Path, sources: Path) -> None:
    """A compiler that does not come back in time is ended and reaped."""
    other_bcc.write_text("import time; time.sleep(60)")
    assert refusal(sources, timeout_s=1.0) == "compiling the kernel programs took too long: given up"
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""


TELLER: Final = """
    import sys
    from otel_ebpf.errors import CannotRun
    from otel_ebpf.kernel.handover import LoadRequest, load
    from otel_ebpf.kernel.probes import Alternative, Attachment, Hook, Kind
    hook = Hook("exec", "", "", (Alternative("tp_btf", (Attachment(Kind.TP_BTF, "sched_process_exec", "on_exec"),)),))
    try:
        print(load(LoadRequest(sys.argv[1], main="loading.c", hooks=(hook,))).report[0].chosen)
    except CannotRun as error:
        print(error)
"""


def told(sources: Path, *wrapper: str) -> str:
    """What loading says in a process started by *wrapper*."""
    command = [*wrapper, sys.executable, "-c", textwrap.dedent(TELLER), str(sources)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_missing_privileges_are_told(sources: Path) -> None:
    """Without capabilities the sentence says which are needed."""
    assert told(sources, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all") == (
        "the kernel does not let this process use BPF (EPERM): run as root, or with CAP_BPF and CAP_PERFMON "
        "(before Linux 5.8: CAP_SYS_ADMIN)\n"
    )


def test_missing_btf_is_told(sources: Path) -> None:
    """On a kernel without BTF the sentence says what it was built without."""
    hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    assert told(sources, "unshare", "--mount", "sh", "-c", hide, "sh") == (
        "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): no /sys/kernel/btf/vmlinux\n"
    )


def test_works_without_tracefs(sources: Path) -> None:
    """Loading and attaching need no tracefs."""
    hide = 'mount -t tmpfs none /sys/kernel/tracing 2>/dev/null; mount -t tmpfs none /sys/kernel/debug; exec "$@"'
    assert told(sources, "unshare", "--mount", "sh", "-c", hide, "sh") == "tp_btf\n"


# -- the product's tables --------------------------------------------------------------------------------------------

# What the tables name for other kernels; everything else has to exist here, so that a misspelt name is noticed.
OTHER_KERNELS: Final = {"HAVE_FUNC_tcp_sendpage", "tcp_sendpage"}  # removed in 6.5


def test_the_slice_table_has_no_misspelt_name() -> None:
    """Each struct, member, enum, tracepoint, function and helper exists on this kernel, but for those of older ones."""
    macros = slices.render(Btf.load(), TABLE).macros
    missing = {name for name, value in macros.items() if name.startswith("HAVE_") and not value}
    assert missing - OTHER_KERNELS == set()


def test_the_probe_table_has_no_misspelt_name() -> None:
    """Each place that a program attaches to exists on this kernel, but for those of older ones."""
    places = {(at.kind, at.target) for hook in PROBES for one in hook.alternatives for at in one.attachments}
    prefixes = {Kind.TP_BTF: "btf_trace_", Kind.RAW_TP: "btf_trace_", Kind.ITER: "bpf_iter_"}
    names = {prefixes.get(kind, "") + target for kind, target in places}
    found = {name for name, _ in Btf.load().find(names, (TypeKind.FUNC, TypeKind.TYPEDEF))}
    assert names - found - OTHER_KERNELS == set()
