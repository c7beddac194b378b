"""The report of ``otel-ebpf check``: privileges, hooks, verdict."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from otel_ebpf.check import CheckReport, look_around, print_report
from otel_ebpf.kernel.probes import PROBES, Failure, OutcomeRow, State
from otel_ebpf.privileges import can_capture, privileges

ROOT = "Name:\tpython3\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n"
NOBODY = "Name:\tpython3\nCapEff:\t0000000000000000\n"
BPF_PERFMON = f"CapEff:\t{1 << 39 | 1 << 38:016x}\n"
SYS_ADMIN = f"CapEff:\t{1 << 21:016x}\n"

ON = OutcomeRow("payload", State.ON, "fentry", (Failure("tp_btf", "not in this kernel"),), "")
STATE = OutcomeRow("state", State.ON, "tp_btf", (), "")
OFF = OutcomeRow(
    "accept", State.OFF, None, (Failure("fexit", "EINVAL"), Failure("kretprobe", "EPERM")), "no accept wait"
)


def report(*hooks: OutcomeRow, problem: str | None = None, status: str = ROOT) -> CheckReport:
    """Return a report of a machine that is otherwise sound."""
    return CheckReport(
        "6.1.0", "x86_64", btf=True, tracefs=True, privileges=privileges(status), hooks=hooks, problem=problem
    )


def printed(found: CheckReport, width: int = 100) -> str:
    """Return what a person reads."""
    console = Console(file=io.StringIO(), width=width)
    print_report(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("status", "held", "capture"),
    [
        (ROOT, {"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}, True),
        (BPF_PERFMON, {"BPF", "PERFMON"}, True),
        (SYS_ADMIN, {"BPF", "PERFMON"}, True),
        (f"CapEff:\t{1 << 39:016x}\n", {"BPF"}, False),
        (NOBODY, set(), False),
        ("", set(), False),
    ],
)
def test_capabilities_are_read_from_the_effective_set(status: str, held: set[str], *, capture: bool) -> None:
    """BPF and PERFMON together, or SYS_ADMIN, allow to capture; what is not held says what is lost."""
    rows = privileges(status)
    assert {row.name for row in rows if row.held} == held
    assert all(bool(row.lost) is not row.held for row in rows)
    assert can_capture(status) is capture


def test_the_main_job_needs_payload_and_state() -> None:
    """The verdict is yes when both main hooks are on, whatever else is off."""
    assert report(ON, STATE, OFF).can_run
    assert not report(ON, OFF).can_run
    assert not report(STATE).can_run
    assert not report(ON, STATE, problem="no privileges").can_run


def test_the_main_hooks_exist() -> None:
    """The names that the verdict asks for are in the probe table."""
    assert {"payload", "state"} <= {hook.name for hook in PROBES}


def test_a_person_reads_what_was_chosen_what_failed_and_what_is_lost() -> None:
    """Every hook has its state, the alternative taken, the kernel's answers, and the loss."""
    text = printed(report(ON, STATE, OFF, status=BPF_PERFMON))
    assert "6.1.0 (x86_64)" in text
    assert "fentry" in text
    assert "tp_btf: not in this kernel" in text
    assert "kretprobe: EPERM" in text
    assert "no accept wait" in text
    assert "without it their workloads are named by what the process calls itself" in text
    assert text.rstrip().endswith("The agent can run here.")


def test_a_person_reads_why_the_agent_cannot_run() -> None:
    """The last line gives the reason, whether loading failed or no way into a main hook was found."""
    assert printed(report(problem="no BTF")).rstrip().endswith("The agent cannot run here: no BTF.")
    row = OutcomeRow("payload", State.OFF, None, (), "HTTP exchanges are not seen")
    assert "no way was found for payload (HTTP exchanges are not seen)" in printed(report(row, STATE), width=200)


def test_a_program_reads_the_same_as_json() -> None:
    """The JSON is plain values with the verdict first."""
    found = json.loads(json.dumps(report(ON, STATE, OFF).to_json()))
    assert found["can_run"] is True
    assert found["hooks"][0] == {
        "hook": "payload",
        "state": "on",
        "chosen": "fentry",
        "failures": [{"alternative": "tp_btf", "answer": "not in this kernel"}],
        "lost": "",
    }
    assert found["kernel"] == {"release": "6.1.0", "machine": "x86_64", "btf": True, "tracefs": True}


def test_a_machine_without_btf_and_tracefs_is_told_apart(tmp_path: Path) -> None:
    """What is not in the file system is reported as missing, never as an exception."""
    bare = look_around((), "no BTF", root=tmp_path)
    assert (bare.btf, bare.tracefs, can_capture("")) == (False, False, False)
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(b"\x9f\xeb")
    (tmp_path / "sys/kernel/debug/tracing/events").mkdir(parents=True)
    full = look_around((), root=tmp_path)
    assert (full.btf, full.tracefs) == (True, True)
