"""The parts of loading that need no kernel: the request, versions, what BCC's messages come down to."""

from __future__ import annotations

import json

import pytest

from otel_ebpf.kernel.compiler import compile_error, version_code
from otel_ebpf.kernel.handover import LoadRequest, size_defines
from otel_ebpf.kernel.maps import cpus_in


def test_the_request_survives_json() -> None:
    """What the agent asks for is what the child reads."""
    request = LoadRequest("/usr/share/bpf", {"RING_PAGES": 4}, ("sweep",), "other.c")
    assert LoadRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_the_request_fits_in_one_message() -> None:
    """The socket carries the whole request at once, with room to spare."""
    assert len(json.dumps(LoadRequest("/" * 4096).to_json())) < 1 << 16


def test_sizes_become_macros() -> None:
    """The ring is counted in pages of 4 KiB."""
    assert size_defines(4 << 20, 32768) == {"RING_PAGES": 1024, "MAX_FLOWS": 32768}


@pytest.mark.parametrize(
    ("release", "code"),
    [
        ("6.1.0-28-amd64", 0x060100),
        ("6.18.44-fc-v669", 0x06122C),
        ("5.10.234", 0x050AEA),
        ("4.19.325", 0x0413FF),
        ("7.2-rc1", 0x070200),
        ("6", 0x060000),
    ],
)
def test_version_codes(release: str, code: int) -> None:
    """The release gives LINUX_VERSION_CODE; a patch level beyond 255 counts as 255."""
    assert version_code(release) == code


@pytest.mark.parametrize(("ranges", "cpus"), [("0\n", 1), ("0-1\n", 2), ("0-127", 128), ("0-3,8-11\n", 12), ("0,2", 3)])
def test_counts_possible_cpus(ranges: str, cpus: int) -> None:
    """Per-CPU maps have a value for each number up to the last possible CPU, holes included."""
    assert cpus_in(ranges) == cpus


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        (
            "flow.h:3:1: warning: unused\nflow.h:12:9: error: use of undeclared identifier 'x'\n  y = x;\n1 error.\n",
            "the kernel programs do not compile: flow.h:12:9: error: use of undeclared identifier 'x'",
        ),
        (
            "could not open bpf map: events, error: Operation not permitted\n",
            "a map cannot be created: could not open bpf map: events, error: Operation not permitted",
        ),
        ("fatal error: error in backend\n", "the kernel programs do not compile: fatal error: error in backend"),
        ("odd\n\n", "the kernel programs do not compile: odd"),
        ("", "the kernel programs do not compile: BCC does not say why"),
    ],
)
def test_compile_errors_come_down_to_one_sentence(printed: str, sentence: str) -> None:
    """Of all that BCC prints the first error is told."""
    assert compile_error(printed) == sentence
