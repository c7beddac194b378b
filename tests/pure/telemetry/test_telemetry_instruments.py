"""The instrument table holds what the contract of names asks for."""

from __future__ import annotations

import itertools
import re

from opentelemetry.semconv.metrics import http_metrics

from otel_ebpf.kernel import layout
from otel_ebpf.telemetry import connections, instruments, names
from otel_ebpf.telemetry.instruments import Kind


def test_names_are_unique_and_ours_are_prefixed() -> None:
    """A name stands for one instrument, and nothing of ours squats in an official namespace."""
    found = [row.name for row in instruments.TABLE]
    assert len(set(found)) == len(found)
    official = re.compile(r"http\.(server|client)\.(request\.duration|(request|response)\.body\.size)|process\..*")
    assert all(official.fullmatch(name) or name.startswith(("ebpf.", "otel_ebpf.")) for name in found)


def test_every_declared_instrument_is_in_the_table() -> None:
    """What can be counted is documented."""
    declared = {value for value in vars(instruments).values() if isinstance(value, instruments.Instrument)}
    assert declared == set(instruments.TABLE)


def test_http_names_are_the_conventions_own() -> None:
    """The names of the stable conventions are theirs to the letter."""
    assert instruments.SERVER_DURATION.name == http_metrics.HTTP_SERVER_REQUEST_DURATION
    assert instruments.CLIENT_DURATION.name == http_metrics.HTTP_CLIENT_REQUEST_DURATION


def test_http_bounds_are_the_conventions_and_two_seconds() -> None:
    """HTTP durations have the bounds of the conventions, and 2 s."""
    assert [bound / 1e9 for bound in instruments.HTTP_BOUNDS] == [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2, 2.5, 5, 7.5, 10,
    ]  # fmt: skip


def test_kernel_bounds_are_powers_of_two_of_a_microsecond() -> None:
    """Kernel durations reach from 1 µs to 16 s, each bound twice the one before."""
    bounds = instruments.KERNEL_BOUNDS
    assert bounds[0] == 1_000
    assert bounds[-1] == 1_000 * 2**24
    assert all(upper == 2 * lower for lower, upper in itertools.pairwise(bounds))


def test_every_histogram_has_bounds() -> None:
    """Histograms have explicit bounds in rising order, other instruments have none."""
    for row in instruments.TABLE:
        assert bool(row.bounds) == (row.kind is Kind.HISTOGRAM)
        assert list(row.bounds) == sorted(set(row.bounds))


def test_retransmit_types_follow_the_record() -> None:
    """The order of retransmit types is the one of the kernel's record."""
    constants = layout.constants()
    assert len(names.RETRANSMIT_TYPES) == constants["RETRANSMIT_TYPES"]
    for index, name in enumerate(names.RETRANSMIT_TYPES):
        assert constants[f"RETRANSMIT_{name.upper()}"] == index


def test_protocol_names_follow_the_record() -> None:
    """What the kernel calls HTTP is HTTP here."""
    constants = layout.constants()
    assert {constants["PROTOCOL_HTTP1"]: "http", constants["PROTOCOL_HTTP2"]: "http"} == connections.PROTOCOL_NAMES


def test_markdown_has_a_row_for_each() -> None:
    """The generated documentation names every instrument once in a table."""
    text = instruments.markdown()
    for row in instruments.TABLE:
        assert len(re.findall(rf"^\| `{re.escape(row.name)}` \|", text, re.MULTILINE)) == 1
    assert text.endswith("\n")
