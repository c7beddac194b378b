"""The harness itself: a Debian kernel boots, and BCC works on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.vm import GuestResult, run_in_guest


@pytest.fixture(scope="module")
def smoke() -> GuestResult:
    """One run of the smoke payload on 6.1."""
    return run_in_guest(Path(__file__).with_name("smoke.py"), kernel="6.1", timeout_s=240)


def test_payload_ends_by_itself(smoke: GuestResult) -> None:
    """The payload runs to its end in the guest and its exit code comes out."""
    assert smoke.exit_code == 0, smoke.console[-4000:]


def test_kernel_is_the_one_asked_for(smoke: GuestResult) -> None:
    """The guest runs the release that was asked for, with BTF and tracefs."""
    assert smoke.report("release").startswith("6.1.")
    assert smoke.report("btf")
    assert smoke.report("tracefs")


def test_kprobe_and_fentry_see_every_message(smoke: GuestResult) -> None:
    """Both kinds of probe on tcp_sendmsg count exactly the messages that were sent."""
    assert (smoke.report("kprobe"), smoke.report("fentry")) == (smoke.report("sent"), smoke.report("sent"))


def test_failing_payload_is_told(tmp_path: Path) -> None:
    """The exit code of a payload that raises is 1, and its traceback is on the console."""
    script = tmp_path / "main.py"
    script.write_text("raise RuntimeError('on purpose')\n")
    result = run_in_guest(script, timeout_s=120)
    assert result.exit_code == 1
    assert "RuntimeError: on purpose" in result.console
