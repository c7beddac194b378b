"""Workers: bounded, never in the way, and what is lost is counted."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from otel_ebpf.telemetry.batch import LOGS, METRICS, Request
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.worker import Bound, InlineWorker, Result, ThreadWorker

BOUNDS = {LOGS: Bound(100, 1000), METRICS: Bound(100, 1000)}


def request(items: int = 10, size: int = 100, signal: str = LOGS, payload: bytes = b"") -> Request:
    """Return a request."""
    return Request(signal, items, size, lambda: payload)


class Gate:
    """An exporter that blocks until it is let go, then answers what it was told to."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.answer: Result | Exception = Result()
        self.done: list[Request] = []
        if is_open:
            self.open.set()

    def export(self, request: Request) -> Result:
        """Wait, then answer."""
        self.entered.set()
        assert self.open.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.done.append(request)
        return self.answer

    def close(self) -> None:
        """Let it go."""
        self.open.set()


def test_a_slow_receiver_bounds_the_queue_by_items() -> None:
    """While the receiver blocks, submit returns at once, and what does not fit is dropped and counted."""
    gate, ledger = Gate(), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    begin = time.monotonic()
    for _ in range(50):
        worker.submit(request())
    assert time.monotonic() - begin < 1
    assert ledger.total("log", "dropped", "queue_full") == 400
    gate.open.set()
    worker.close(5)
    assert ledger.total("log", "exported") == 100
    assert len(gate.done) == 10


def test_the_queue_is_bounded_by_bytes() -> None:
    """Few large records fill the queue as well; one that is too large by itself gets in when nothing waits."""
    gate, ledger = Gate(), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    worker.submit(request(1, 5000))
    worker.submit(request(1, 1))
    assert ledger.total("log", "dropped", "queue_full") == 1
    gate.open.set()
    worker.close(5)
    assert ledger.total("log", "exported") == 1


def test_of_metrics_the_oldest_goes() -> None:
    """When metrics do not fit, the oldest collection that waits is dropped for the newest; signals have bounds each."""
    gate, ledger = Gate(), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    worker.submit(request(40, signal=METRICS, payload=b"0"))
    assert gate.entered.wait(5)
    for number in range(1, 5):
        worker.submit(request(40, signal=METRICS, payload=b"%d" % number))
    worker.submit(request(10))
    gate.open.set()
    worker.close(5)
    assert [r.payload() for r in gate.done if r.signal == METRICS] == [b"0", b"4"]
    assert ledger.total("metric", "seen") == 200
    assert ledger.total("metric", "dropped", "queue_full") == 120
    assert ledger.total("log", "exported") == 10
    assert ledger.open()["metric"] == 0


def test_failures_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that fails is said once, its return once, and every loss is counted."""
    caplog.set_level(logging.INFO)
    gate, ledger = Gate(is_open=True), Ledger()
    worker = InlineWorker("OTLP grpc", gate, ledger)
    gate.answer = Result(error="UNAVAILABLE: connection refused")
    for _ in range(3):
        worker.submit(request())
    gate.answer = Result(rejected=4)
    for _ in range(2):
        worker.submit(request())
    assert ledger.total("log", "dropped", "export_failed") == 30
    assert ledger.total("log", "dropped", "rejected") == 8
    assert ledger.total("log", "exported") == 12
    assert ledger.rows()["export", "failed", "logs"] == 3
    assert [record.getMessage() for record in caplog.records] == [
        "OTLP grpc takes no logs: UNAVAILABLE: connection refused; what does not fit the queue is counted",
        "OTLP grpc takes logs again",
    ]


def test_a_fault_in_an_exporter_does_not_end_the_worker() -> None:
    """An exception is a failed export, and the next request is tried."""
    gate, ledger = Gate(is_open=True), Ledger()
    gate.answer = ValueError("broken")
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    worker.submit(request())
    for _ in range(100):
        if ledger.total("log", "dropped", "export_failed"):
            break
        time.sleep(0.01)
    gate.answer = Result()
    worker.submit(request())
    worker.close(5)
    assert (ledger.total("log", "dropped", "export_failed"), ledger.total("log", "exported")) == (10, 10)


def test_rejecting_more_than_was_sent_is_no_credit() -> None:
    """A receiver that claims to have refused more than it got has refused all."""
    ledger, gate = Ledger(), Gate(is_open=True)
    gate.answer = Result(rejected=99)
    InlineWorker("test", gate, ledger).submit(request())
    assert (ledger.total("log", "dropped", "rejected"), ledger.total("log", "exported")) == (10, 0)


class Stuck(Gate):
    """An exporter that does not come back even when it is closed."""

    def close(self) -> None:
        """Stay stuck."""


def test_shutdown_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an exporter does, closing returns in time, and all that was not delivered is counted, once."""
    monkeypatch.setattr("otel_ebpf.telemetry.worker.GRACE_S", 0.05)
    gate, ledger = Stuck(), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    for _ in range(3):
        worker.submit(request())
    begin = time.monotonic()
    worker.close(0.1)
    assert time.monotonic() - begin < 2
    assert ledger.total("log", "dropped", "shutdown") == 30
    gate.open.set()
    time.sleep(0.05)
    assert ledger.total("log", "exported") == 0


def test_shutdown_delivers_what_waits() -> None:
    """What is queued when the agent ends is still delivered, and nothing is taken after that."""
    gate, ledger = Gate(is_open=True), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    for _ in range(5):
        worker.submit(request())
    worker.close(5)
    assert len(gate.done) == 5
    worker.submit(request())
    assert ledger.total("log", "dropped", "queue_full") == 10


def test_shutdown_does_not_try_a_dead_receiver_again_and_again() -> None:
    """When the receiver fails during shutdown the rest is dropped at once."""
    gate, ledger = Gate(), Ledger()
    gate.answer = Result(error="down")
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    for _ in range(5):
        worker.submit(request())
    closing = threading.Thread(target=worker.close, args=(5,))
    closing.start()
    time.sleep(0.05)
    gate.open.set()
    closing.join(5)
    dropped: Any = ledger.total("log", "dropped")
    assert dropped == 50
    assert ledger.total("log", "dropped", "shutdown") == 40


def test_draining_waits_for_what_was_taken() -> None:
    """Draining returns when everything has its fate, or when the time is over."""
    gate, ledger = Gate(), Ledger()
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    worker.submit(request())
    worker.drain(0.05)
    assert ledger.total("log", "exported") == 0
    gate.open.set()
    worker.drain(5)
    assert ledger.total("log", "exported") == 10
    worker.close(5)


def test_draining_does_not_wait_for_a_dead_receiver() -> None:
    """When the receiver fails there is nothing to wait for."""
    gate, ledger = Gate(), Ledger()
    gate.answer = Result(error="down")
    worker = ThreadWorker("test", gate, ledger, BOUNDS)
    for _ in range(3):
        worker.submit(request())
    threading.Timer(0.1, gate.open.set).start()
    begin = time.monotonic()
    worker.drain(5)
    assert time.monotonic() - begin < 2
    worker.close(5)
    assert ledger.total("log", "dropped") == 30
