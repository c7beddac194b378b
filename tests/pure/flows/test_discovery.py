"""The role of older connections, told from who listens."""

from __future__ import annotations

import pytest

from otel_ebpf.flows.discovery import Ends, Listeners, server_port
from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, EdgeKey, Listener

HERE, THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
V6 = bytes(15) + b"\1"
ANY4, ANY6 = bytes(4), bytes(16)


@pytest.mark.parametrize(
    ("listeners", "ends", "role"),
    [
        ([Listener(1, 80, 5, HERE)], Ends(1, HERE, 80, THERE, 50000), ROLE_SERVER),
        ([Listener(1, 80, 5, ANY4)], Ends(1, HERE, 80, THERE, 50000), ROLE_SERVER),
        ([Listener(1, 80, 5, ANY6)], Ends(1, HERE, 80, THERE, 50000), ROLE_SERVER),
        ([Listener(1, 80, 5, ANY6)], Ends(1, V6, 80, V6, 50000), ROLE_SERVER),
        ([Listener(2, 80, 5, ANY4)], Ends(1, HERE, 80, THERE, 90), ROLE_UNKNOWN),
        ([Listener(1, 80, 5, THERE)], Ends(1, HERE, 80, THERE, 90), ROLE_UNKNOWN),
        ([Listener(1, 80, 5, ANY4)], Ends(1, HERE, 999, HERE, 80), ROLE_CLIENT),
        ([Listener(2, 80, 5, THERE)], Ends(1, HERE, 999, THERE, 80), ROLE_CLIENT),
        ([], Ends(1, HERE, 50000, THERE, 443), ROLE_CLIENT),
        ([], Ends(1, HERE, 50000, THERE, 50001), ROLE_UNKNOWN),
        ([], Ends(1, HERE, 443, THERE, 50000), ROLE_UNKNOWN),
    ],
)
def test_role(listeners: list[Listener], ends: Ends, role: int) -> None:
    """Who listens on the local port serves.

    Who talks to a listener, or from an ephemeral port, is a client; else unknown.
    """
    assert Listeners(listeners).role(ends) == role


def test_ends_and_server_port() -> None:
    """The serving end's port depends on the role."""
    ends = Ends.of(EdgeKey(b"x", 0, 1, 7, HERE, THERE, 0, ROLE_UNKNOWN), 50000, 443)
    assert ends == Ends(7, HERE, 50000, THERE, 443)
    assert [server_port(role, ends) for role in (ROLE_UNKNOWN, ROLE_CLIENT, ROLE_SERVER)] == [0, 443, 50000]
