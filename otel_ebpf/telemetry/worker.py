"""Workers: hand export requests to an exporter without making the loop wait.

In: requests. Out: the same at an exporter, in order, and what became of them in the ledger.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from otel_ebpf.telemetry import ledger as fate
from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS, STAGES, Request
from otel_ebpf.telemetry.ledger import Ledger

_log = logging.getLogger(__name__)

_MOST_ERROR_TEXT: Final = 200
"""Characters of a receiver's own words in the agent's log: it may send a page."""

QUEUE_FULL: Final = "queue_full"
EXPORT_FAILED: Final = "export_failed"
REJECTED: Final = "rejected"
SHUTDOWN: Final = "shutdown"

GRACE_S: Final = 1.0
"""What an exporter gets to come back after it was told to give up."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much of one signal may wait; a request that is too large by itself is let in when nothing else waits."""

    items: int
    size: int


BOUNDS: Final = {
    LOGS: Bound(32_768, 6 << 20),
    SPANS: Bound(32_768, 6 << 20),
    METRICS: Bound(200_000, 16 << 20),
}
"""Most of a second of everything at 10,000 exchanges a second, minutes of what is notable; 12 MB at worst for logs and
spans. Of metrics about three collections at the cardinality limit: newer totals say what older ones said."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request.

    Attributes:
        error: Why it was not delivered, in words; None when it was.
        rejected: Items that the receiver refused of a request it took (OTLP, "Partial Success").
    """

    error: str | None = None
    rejected: int = 0


class Exporter(Protocol):
    """Delivers requests; may block and may fail, and may be closed while it blocks."""

    def export(self, request: Request) -> Result:
        """Deliver one request; retries are its own affair."""

    def close(self) -> None:
        """Give up what is being tried and let go of everything."""


class Worker(Protocol):
    """Takes requests for one exporter."""

    def submit(self, request: Request) -> None:
        """Take a request."""

    def drain(self, timeout_s: float) -> None:
        """Wait until all that was taken has its fate, but not longer."""

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in that time, and count the rest as dropped."""


class Account:
    """Writes down what became of requests, and says when an exporter fails and when it works again."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._failing: set[str] = set()

    @property
    def failing(self) -> bool:
        """Whether some signal was not delivered the last time."""
        return bool(self._failing)

    def seen(self, request: Request) -> None:
        """Count what comes in; the exchanges behind logs and spans were counted before they were records."""
        if request.signal == METRICS:
            self._ledger.add(STAGES[METRICS], fate.SEEN, n=request.items)

    def dropped(self, request: Request, reason: str) -> None:
        """Count what is lost."""
        self._ledger.add(STAGES[request.signal], fate.DROPPED, reason, request.items)

    def done(self, request: Request, result: Result) -> None:
        """Count what the exporter made of a request."""
        if result.error is not None:
            self.dropped(request, EXPORT_FAILED)
            self._ledger.add("export", "failed", request.signal)
            self._failed(request, result.error)
            return
        rejected = min(max(result.rejected, 0), request.items)
        stage = STAGES[request.signal]
        self._ledger.add(stage, fate.EXPORTED, n=request.items - rejected)
        self._ledger.add(stage, fate.DROPPED, REJECTED, rejected)
        self._ledger.add("export", "succeeded", request.signal)
        self._worked(request)

    def _failed(self, request: Request, error: str) -> None:
        if request.signal not in self._failing:
            self._failing.add(request.signal)
            _log.warning(
                "%s takes no %s: %s; what does not fit the queue is counted",
                self._name,
                request.signal,
                error[:_MOST_ERROR_TEXT],
            )

    def _worked(self, request: Request) -> None:
        if request.signal in self._failing:
            self._failing.discard(request.signal)
            _log.info("%s takes %s again", self._name, request.signal)


def run(exporter: Exporter, request: Request) -> Result:
    """Export, whatever happens: a fault in an exporter must not end the worker."""
    try:
        return exporter.export(request)
    except Exception as error:  # noqa: BLE001 - see above; the text tells what it was
        return Result(error=f"{type(error).__name__}: {error}")


class InlineWorker:
    """Exports at once, in the caller's thread: replay, whose output must not depend on timing."""

    def __init__(self, name: str, exporter: Exporter, ledger: Ledger) -> None:
        self._exporter = exporter
        self._account = Account(name, ledger)

    def submit(self, request: Request) -> None:
        """Deliver a request now."""
        self._account.seen(request)
        self._account.done(request, run(self._exporter, request))

    def drain(self, timeout_s: float) -> None:
        """Nothing waits."""

    def close(self, timeout_s: float) -> None:  # noqa: ARG002 - nothing waits
        """Close the exporter."""
        self._exporter.close()


class ThreadWorker:
    """Exports on a thread of its own, first come first served, from a queue that is bounded per signal."""

    def __init__(self, name: str, exporter: Exporter, ledger: Ledger, bounds: dict[str, Bound] | None = None) -> None:
        self._exporter = exporter
        self._account = Account(name, ledger)
        self._bounds = bounds or BOUNDS
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._waiting = {signal: Bound(0, 0) for signal in self._bounds}
        self._changed = threading.Condition()
        self._closing = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"export-{name}", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queue a request; when its signal has no room, drop it; of metrics the oldest: totals supersede each other."""
        with self._changed:
            self._account.seen(request)
            if request.signal == METRICS:
                while not self._fits(request) and self._drop_oldest(METRICS):
                    pass
            if not self._fits(request) or self._closing:
                self._account.dropped(request, QUEUE_FULL)
                return
            self._weigh(request, 1)
            self._queue.append(request)
            self._changed.notify_all()

    def _fits(self, request: Request) -> bool:
        bound, waiting = self._bounds[request.signal], self._waiting[request.signal]
        return not waiting.items or (
            waiting.items + request.items <= bound.items and waiting.size + request.size <= bound.size
        )

    def _weigh(self, request: Request, sign: int) -> None:
        waiting = self._waiting[request.signal]
        self._waiting[request.signal] = Bound(waiting.items + sign * request.items, waiting.size + sign * request.size)

    def _drop_oldest(self, signal: str) -> bool:
        for request in self._queue:
            if request.signal == signal:
                self._queue.remove(request)
                self._weigh(request, -1)
                self._account.dropped(request, QUEUE_FULL)
                return True
        return False

    def _run(self) -> None:
        while (request := self._next()) is not None:
            result = run(self._exporter, request)
            with self._changed:
                if self._abandoned:
                    return
                self._current = None
                self._weigh(request, -1)
                self._account.done(request, result)
                self._changed.notify_all()
                if self._closing and result.error is not None:
                    return

    def _next(self) -> Request | None:
        """Return the next request once there is one; None when closing and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if self._abandoned or not self._queue:
                return None
            self._current = self._queue.popleft()
            return self._current

    def drain(self, timeout_s: float) -> None:
        """Wait until all that was taken has its fate, but not longer, and not for a receiver that fails."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._account.failing, timeout_s)

    @property
    def _idle(self) -> bool:
        return not self._queue and self._current is None

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in that time; a receiver that fails now is not tried again."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(max(deadline - time.monotonic(), 0))
        self._exporter.close()
        self._thread.join(GRACE_S)
        with self._changed:
            self._abandoned = True
            lost = [*([self._current] if self._current else []), *self._queue]
            self._queue.clear()
            for request in lost:
                self._account.dropped(request, SHUTDOWN)
