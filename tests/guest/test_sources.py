"""The kernel suite on Linux 6.1: the sources of payload that need fentry or kprobes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.guest.vm import GuestResult, run_in_guest
from tests.kernel.expectations import check_suite

_TESTS = Path(__file__).resolve().parents[1]
_SETS = {
    "fentry_pages": "-",
    "kprobe_pages": "payload.fentry_pages,payload.fentry,accept.fexit",
    "syscall": "payload.fentry_pages,payload.fentry,payload.kprobe_pages,payload.kprobe,accept.fexit,accept.kretprobe",
}
# Function probes cannot see the end of a call that began before they were attached: the server's thread waited in one.
_IN_A_CALL = (("server", "/older/1"),)
_UNSEEN = {"fentry_pages": _IN_A_CALL, "kprobe_pages": _IN_A_CALL, "syscall": ()}


@pytest.fixture(scope="module")
def machine() -> GuestResult:
    """One boot of 6.1, one run of the suite for each source."""
    return run_in_guest(
        _TESTS / "guest" / "payload_suite.py",
        kernel="6.1",
        files={"/payload/suite.py": _TESTS / "kernel" / "suite.py"},
        environment={"SUITE_PROBES_OFF": " ".join(_SETS.values())},
        timeout_s=400,
    )


@pytest.fixture(params=_SETS)
def source(request: pytest.FixtureRequest) -> str:
    """Each source of payload."""
    return str(request.param)


def _result(machine: GuestResult, source: str) -> dict[str, Any]:
    found: dict[str, Any] = machine.report(_SETS[source])
    assert "error" not in found, found["error"]
    return found


def test_source_is_the_one_wanted(machine: GuestResult, source: str) -> None:
    """With the better ones switched off, the source is attached."""
    assert _result(machine, source)["report"]["payload"] == source


def test_all_exchanges_are_seen_exactly(machine: GuestResult, source: str) -> None:
    """Both ends of every exchange have the right method, target, status and sizes, and nothing else is seen."""
    check_suite(_result(machine, source), _UNSEEN[source])
