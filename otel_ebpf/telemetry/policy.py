"""Which exchanges are told one by one: all, the notable ones, none.

In: settings, and the verdict on an exchange. Out: yes or no, for logs and spans each.
"""

from __future__ import annotations

from typing import Final

NEVER_NS: Final = 1 << 62
"""146 years: no exchange is that slow."""


class Policy:
    """Notable is what is an error, what is slow, and one in N of the rest.

    Args:
        logs: ``all``, ``notable`` or ``off``.
        spans: The same of spans.
        one_in: N.
        slow_ns: An exchange that takes at least this long is slow.

    Attributes:
        one_in: N; 0 when nobody asks for notable ones.
        slow_ns: From when on an exchange is notable; never when nobody asks for notable ones.
        constant: What ``choose`` says of every exchange; None when that depends on it.
    """

    def __init__(self, *, logs: str, spans: str, one_in: int, slow_ns: int) -> None:
        self.logs = logs
        self.spans = spans
        notable = "notable" in (logs, spans)
        self.one_in = one_in if notable else 0
        self.slow_ns = slow_ns if notable else NEVER_NS
        self.constant = None if notable else (logs == "all", spans == "all")
        self._everything = "all" in (logs, spans)
        self._errors = notable or self._everything
        self._since = 0
        self._picked = False

    def wants(self, error: str | None) -> bool:
        """Tell whether every exchange with this ``error.type`` is told by somebody, however fast it was."""
        return self._everything or (self._errors and error is not None)

    def pick(self, exchanges: int) -> bool:
        """Tell whether, after so many more *exchanges*, the one at hand is the 1 in N."""
        if not self.one_in:
            return False
        self._since += exchanges
        self._picked = self._since >= self.one_in
        if self._picked:
            self._since = 0
        return self._picked

    def choose(self, error: str | None, duration_ns: int) -> tuple[bool, bool]:
        """Return whether the exchange at hand becomes a log record, and whether it becomes a span."""
        if self.constant is not None:
            return self.constant
        notable = self._picked or error is not None or duration_ns >= self.slow_ns
        self._picked = False
        log, span = self.logs, self.spans
        return log == "all" or (notable and log == "notable"), span == "all" or (notable and span == "notable")
