"""The command line: usage, exit codes, and errors as one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from otel_ebpf import cli
from otel_ebpf.check import CheckReport
from otel_ebpf.config import Settings
from otel_ebpf.errors import CannotRun, RecordingError
from otel_ebpf.kernel.probes import OutcomeRow, State


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings that whoever runs the tests may have."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put an agent in place that does nothing, and let everybody capture."""
    fake = ModuleType("otel_ebpf.agent")
    monkeypatch.setitem(sys.modules, "otel_ebpf.agent", fake)
    monkeypatch.setattr("otel_ebpf.agent", fake, raising=False)
    monkeypatch.setattr(cli, "can_capture", lambda _: True)
    return fake


def test_help_shows_every_command_with_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` is enough to begin with."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"\n    {command}" in text for command in ("run", "check", "record", "replay", "settings"))
    assert "sudo otel-ebpf run --duration 30" in text
    assert "exit codes: 0 done, 1 cannot run here, 2 wrong usage or setting" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "otel-ebpf: the following arguments are required: COMMAND; see otel-ebpf --help"),
        (["run", "--fast"], "otel-ebpf: unrecognized arguments: --fast; see otel-ebpf --help"),
        (["run", "--duration", "0"], "argument --duration: '0' is not a number of seconds above 0"),
        (["run", "--duration", "-3"], "argument --duration: '-3' is not a number of seconds above 0"),
        (["run", "--duration", "nan"], "argument --duration: 'nan' is not a number of seconds above 0"),
        (["run", "--duration", "inf"], "argument --duration: 'inf' is not a number of seconds above 0"),
        (["run", "--duration", "1e99"], "argument --duration: '1e99' is not a number of seconds above 0"),
        (["replay"], "otel-ebpf: the following arguments are required: FILE; see otel-ebpf replay --help"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but the sentence is printed, and it says where help is."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    text = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in text
    assert text.count("\n") == 1


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong variable has one line, without a traceback."""
    monkeypatch.setenv("OTEL_EBPF_MAX_FLOWS", "-1")
    monkeypatch.setenv("OTEL_EBPF_NONSENSE", "1")
    assert cli.main(["settings"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1] == "otel-ebpf: OTEL_EBPF_MAX_FLOWS='-1' is not valid: allowed is a whole number from 64 to 1048576"


def test_what_the_agent_cannot_do_is_one_sentence_and_its_exit_code(
    agent: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The errors of the agent carry their exit code."""

    def refuse(*_: object, **__: object) -> int:
        raise CannotRun("this kernel has no BTF")

    def broken(*_: object) -> int:
        raise RecordingError("x.rec is not a recording")

    agent.__dict__.update(run=refuse, replay=broken)
    assert cli.main(["run"]) == 1
    assert cli.main(["replay", "x.rec"]) == 2
    assert capsys.readouterr().err == "otel-ebpf: this kernel has no BTF\notel-ebpf: x.rec is not a recording\n"


def test_commands_hand_over_settings_and_arguments(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command calls the agent once, with what was typed and set."""
    calls: list[tuple[object, ...]] = []

    def called(*given: object, duration_s: float | None = -1.0) -> int:
        calls.append((*given, duration_s))
        return 0

    agent.__dict__.update(run=called, record=called, replay=called)
    monkeypatch.setenv("OTEL_EBPF_PROFILE", "light")
    assert cli.main(["run", "--duration", "0.5"]) == 0
    assert cli.main(["record", "a.rec"]) == 0
    assert cli.main(["replay", "a.rec"]) == 0
    light = Settings(profile="light")
    assert calls == [(light, 0.5), (light, Path("a.rec"), None), (light, Path("a.rec"), -1.0)]


@pytest.mark.parametrize(("state", "code"), [(State.ON, 0), (State.OFF, 1)])
def test_check_answers_with_its_exit_code(
    agent: ModuleType, state: State, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when the main job can run here, 1 when not; ``--json`` prints the same as one value."""
    hooks = tuple(OutcomeRow(name, state, None, (), "") for name in ("payload", "state"))
    agent.__dict__["check"] = lambda _: CheckReport("6.1", "x86_64", btf=True, tracefs=True, privileges=(), hooks=hooks)
    assert cli.main(["check", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["can_run"] is (code == 0)
    assert cli.main(["check"]) == code
    assert "The agent can" in capsys.readouterr().out


def test_interrupting_a_command_prints_nothing(agent: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with the shells' exit code and without a traceback."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    agent.__dict__["replay"] = interrupted
    assert cli.main(["replay", "x"]) == 130
    assert capsys.readouterr() == ("", "")


def test_settings_lists_value_and_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``settings`` shows what is in force, as a table and as JSON."""
    monkeypatch.setenv("OTEL_EBPF_OPEN_PORT", "80")
    assert cli.main(["settings"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("OTEL_EBPF_OPEN_PORT"))
    assert line.split() == ["OTEL_EBPF_OPEN_PORT", "80", "environment"]
    assert cli.main(["settings", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["OTEL_EBPF_RING_SIZE"]["value"] == "4MiB"
    assert rows["OTEL_EBPF_OPEN_PORT"]["source"] == "environment"


def test_without_privileges_the_exact_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is not root is told what to type, with the variables that sudo has to keep."""
    program, sudo = tmp_path / "otel-ebpf", tmp_path / "sudo"
    for path in (program, sudo):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OTEL_EBPF_PROFILE", "light")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cli, "can_capture", lambda _: False)
    monkeypatch.setattr(sys, "argv", ["otel-ebpf", "run", "--duration", "5"])
    assert cli.main(["run", "--duration", "5"]) == 1
    assert capsys.readouterr().err == (
        "otel-ebpf: this needs root, or the capabilities BPF and PERFMON; "
        f"type: sudo --preserve-env=OTEL_EBPF_PROFILE {program} run --duration 5\n"
    )
    sudo.unlink()
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "otel-ebpf: this needs root, or the capabilities BPF and PERFMON\n"


def test_a_reader_that_goes_away_causes_no_traceback() -> None:
    """Output into a closed pipe ends quietly."""
    command = [
        sys.executable,
        "-c",
        "import sys; from otel_ebpf.cli import main; sys.exit(main(['settings', '--json']))",
    ]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert done.stderr == b""
