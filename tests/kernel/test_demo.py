"""The demo, as ``make demo`` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_demo_ends_with_sent_equal_to_seen() -> None:
    """Every exchange that the demo's clients had is seen from both sides, with its sizes; nothing is left behind."""
    before = _namespaces()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.demo"], cwd=REPOSITORY, capture_output=True, text=True, timeout=150, check=False
    )
    assert "sent = seen: all 2640 exchanges" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0
    assert _namespaces() - before == set()


def _namespaces() -> set[str]:
    """The namespaces of this kind; others may come and go."""
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, timeout=30, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith("oebpf")}
