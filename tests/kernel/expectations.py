"""What the kernel suite must have seen, whatever the kernel and the source."""

from __future__ import annotations

from typing import Any, Final

_BOTH: Final = ("client", "server")
_EXCHANGES: Final = (
    *(("GET", f"/keep/{number}", 200, 0, 11) for number in range(23)),
    *(("GET", f"/pipe/{number}", 200, 0, 11) for number in range(16)),
    ("GET", "/split", 200, 0, 5),
    ("GET", "/vector", 200, 0, 5),
    ("GET", "/sendfile", 200, 0, 100_000),
    ("GET", "/big", 200, 0, 300_000),
    ("GET", "/none", 204, 0, 0),
    ("GET", "/chunked", 200, 0, 15),
    ("GET", "/404", 404, 0, 11),
    ("GET", "/503", 503, 0, 11),
    ("HEAD", "/head", 200, 0, 0),
    ("POST", "/post", 200, 2000, 11),
    ("PUT", "/put", 200, 18, 11),
    ("PURGE", "/other", 200, 0, 11),
    ("GET", "/bytes", 200, 0, 11),
    ("GET", "/long?" + "q" * 34, 200, 0, 11),
    ("PUT", "/behind/1", 200, 300, 11),
    ("GET", "/behind/2", 200, 0, 11),
    ("GET", "/six", 200, 0, 11),
    ("GET", "/older/1", 200, 0, 11),
    ("GET", "/older/2", 200, 0, 11),
    ("GET", "/reset", 200, 0, 11),
)
# Bytes that each client sent and received, connection by connection, the older one excepted: it stays open.
_TOTALS: Final = ((34, 49), (36, 49), (399, 98), (323, 400_393), (598, 784), (864, 1127), (2168, 147), (3072, 98))
_RESETS: Final = [0x4, 0x8]  # FLOW_RESET_RECEIVED at the server, FLOW_RESET_SENT at the client


def check_suite(result: dict[str, Any], unseen: tuple[tuple[str, str], ...] = ()) -> None:
    """Assert that *result* is what the suite's traffic must give.

    Args:
        result: What ``suite.run`` returned.
        unseen: Exchanges, by role and target, that this source cannot see; the probe table and the limits say so.
    """
    expected = sorted([role, *one, "", ""] for role in _BOTH for one in _EXCHANGES if (role, one[1]) not in unseen)
    assert result["exchanges"] == expected
    assert result["failures"] == ["refused"]
    assert result["families"] == ["ipv4", "ipv6"]
    assert result["older"] == ["client", "server"]
    assert result["handshakes"] == 2 * len(_TOTALS)
    assert result["resets"] == _RESETS
    assert result["totals"] == sorted(_both_ends())


def _both_ends() -> list[list[Any]]:
    rows: list[list[Any]] = []
    for sent, received in _TOTALS:
        rows += [["client", sent, received], ["server", received, sent]]
    return rows
