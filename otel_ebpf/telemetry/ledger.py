"""The ledger: the account of everything seen.

In: what became of each thing, as it happens. Out: totals by stage, outcome and reason, which must add up.
"""

from __future__ import annotations

import threading
from typing import Final

SEEN: Final = "seen"
PASSED: Final = "passed"
AGGREGATED: Final = "aggregated"
EXPORTED: Final = "exported"
SAMPLED_OUT: Final = "sampled_out"
DROPPED: Final = "dropped"

Key = tuple[str, str, str]
"""Stage, outcome, reason."""


class Ledger:
    """Totals since the start. Any thread may add: exports end on threads of their own."""

    def __init__(self) -> None:
        self._totals: dict[Key, int] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, outcome: str, reason: str = "", n: int = 1) -> None:
        """Count *n* things with one fate; hot paths count for themselves and add now and then."""
        if n:
            key = (stage, outcome, reason)
            with self._lock:
                self._totals[key] = self._totals.get(key, 0) + n

    def put(self, stage: str, outcome: str, reason: str, total: int) -> None:
        """Set a total that somebody else counts (the kernel); it never goes down."""
        with self._lock:
            key = (stage, outcome, reason)
            if total:
                self._totals[key] = max(total, self._totals.get(key, 0))

    def rows(self) -> dict[Key, int]:
        """Return all totals, sorted, so that two runs over the same records tell them in the same order."""
        with self._lock:
            return dict(sorted(self._totals.items()))

    def total(self, stage: str, outcome: str, reason: str | None = None) -> int:
        """Return one total, or the sum over all reasons."""
        return sum(
            n for (s, o, r), n in self.rows().items() if s == stage and o == outcome and (reason is None or r == reason)
        )

    def open(self) -> dict[str, int]:
        """Return how much of what a stage has seen has no fate yet: on its way while running, 0 after the end."""
        stages = [stage for (stage, outcome, _), n in self.rows().items() if outcome == SEEN]
        return {stage: self._unaccounted(stage) for stage in stages}

    def _unaccounted(self, stage: str) -> int:
        return sum(n if outcome == SEEN else -n for (s, outcome, _), n in self.rows().items() if s == stage)
