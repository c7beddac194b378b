"""The console: what a person sees."""

from __future__ import annotations

import io
from typing import Any

import pytest

from otel_ebpf.telemetry.console import ConsoleExporter
from otel_ebpf.telemetry.console_tables import Cell
from otel_ebpf.telemetry.console_text import duration, plain, size
from otel_ebpf.telemetry.health import Health, HealthCheck
from otel_ebpf.telemetry.worker import InlineWorker
from tests.pure.telemetry.making import CLIENT, MS, SERVER, Bench, S, SomeEnricher, SomePeer, bench, exchange, flow
from tests.pure.telemetry.test_telemetry_connections import Delta


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look does not depend on where the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def show(file: io.StringIO | None = None, peer: SomePeer | None = None, **settings: Any) -> tuple[Bench, io.StringIO]:
    """Return a bench that prints, and what it prints to."""
    file = file or io.StringIO()
    b = bench(SomeEnricher(peer or SomePeer()), **({"metrics_exporter": "console"} | settings))
    b.telemetry._workers = dict.fromkeys(
        ("metrics", "logs", "traces"), InlineWorker("console", ConsoleExporter(file), b.ledger)
    )
    return b, file


def lines(file: io.StringIO) -> list[str]:
    """Return what was printed."""
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_an_exchange_is_a_line() -> None:
    """An exchange is one line: when, who, with whom, what, the answer, how large, how long."""
    b, file = show(exchange_logs="all", exchange_spans="off")
    b.telemetry.exchange(exchange(retransmits=2))
    b.telemetry.exchange(exchange(edge=CLIENT, status=404, remote_port=8080, handshake_ns=3 * MS))
    b.telemetry.exchange(
        exchange(status=None, error_type="reset", response_first_ns=0, response_last_ns=0, response_body_bytes=None)
    )
    b.telemetry._details.flush()
    assert [line[13:] for line in lines(file)] == [
        "nginx ← 10.0.0.7 GET /users/7?x=1 200 612 B 12 ms (wait 8 ms) · 2 retransmits",
        "nginx ← 10.0.0.7 GET /users/7?x=1 reset - 1 ms",
        "curl → 10.0.0.7:8080 GET /users/7?x=1 404 612 B 12 ms (wait 8 ms) · connect 3 ms",
    ]
    assert all(line[2] == line[5] == ":" and line[8] == "." for line in lines(file))


def test_a_span_is_a_line() -> None:
    """A span is one line with its trace."""
    b, file = show(exchange_logs="off", exchange_spans="all")
    b.telemetry.exchange(exchange())
    b.telemetry._details.flush()
    [line] = lines(file)
    assert line[13:].startswith("nginx server span GET /users 12 ms trace ")


def test_a_request_cannot_steer_the_terminal() -> None:
    """Escape sequences of a request are shown, not obeyed, in lines and in tables; markup is text."""
    b, file = show(exchange_logs="all", exchange_spans="all")
    b.telemetry.exchange(exchange(target=b"/\x1b[2J[red]/\x07", method=b"G\x1bT", user_agent=b"\x1b"))
    b.telemetry.shutdown()
    assert "\x1b" not in file.getvalue()
    assert "\x07" not in file.getvalue()
    assert "/\\x1b[2J[red]/\\x07" in file.getvalue()


def test_colours_only_on_a_terminal() -> None:
    """A pipe gets plain text, whole; a terminal gets colours, and lines no wider than it is."""
    for file, is_terminal in ((io.StringIO(), False), (Terminal(), True)):
        b, _ = show(file, exchange_logs="all", exchange_spans="off")
        b.telemetry.exchange(exchange(target=b"/" + b"a" * 300))
        b.telemetry._details.flush()
        [line] = file.getvalue().splitlines()
        assert ("\x1b[" in line) is is_terminal
        assert ("a" * 300 in line) is not is_terminal
        assert ("…" in line) is is_terminal


def test_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are a table of requests, one of connections and a line about the agent, of the last interval only."""
    monkeypatch.setenv("COLUMNS", "120")
    b, file = show(peer=SomePeer("service", "shop"))
    b.telemetry._health = HealthCheck(
        Health(flows=lambda: 3, process=lambda: ({"user": S}, 50 << 20)), b.ledger, b.telemetry._aggregate
    )
    b.telemetry._active = lambda: {SERVER: 2}
    for _ in range(20):
        b.count(b"GET /users/1 HTTP/1.1")
    b.count(status=b"500", duration_ns=2 * S)
    b.count(edge=CLIENT)
    b.telemetry.opened(flow())
    b.telemetry.traffic(flow(), Delta(2048, 1 << 20, srtt_us=250, retransmits=(1, 0, 0, 0, 0, 0)))
    b.ledger.add("exchange", "seen", n=22)
    b.ledger.add("kernel", "dropped", "ring_full", 7)
    b.advance(10 * S)
    b.telemetry.collect()
    shown = [" ".join(line.split()) for line in lines(file)]
    assert shown[0][8:25] == ", the last 10 s ─"
    assert shown[1:] == [
        "HTTP",
        "workload other end request count /s errors p50 p95 max",
        "nginx:80 ← shop GET /users 20 2.0 11 ms 11.9 ms 12 ms",
        "curl → shop:80 GET /a 1 0.1 11 ms 11.9 ms 12 ms",
        "nginx:80 ← shop GET /a 1 0.1 1 1.50 s 1.95 s 2.00 s",
        "Connections",
        "workload other end new failed open handshake rtt resent resets sent received",
        "nginx:80 ← shop 1 2 1 ms 250 µs 1 2.0 KiB 1.0 MiB",
        "agent: 22 exchanges, 3 flows, 0.100 core, 50.0 MiB · kernel: 7 dropped (ring_full)",
        "",
    ]
    file.truncate(0)
    b.advance(10 * S)
    b.telemetry.collect()
    assert "HTTP" not in file.getvalue()


def test_tables_are_not_endless() -> None:
    """A table shows its largest rows and says how many more there are."""
    b, file = show()
    for index in range(50):
        b.count(b"GET /r%d HTTP/1.1" % index)
    b.telemetry.collect()
    assert sum("GET /r" in line for line in lines(file)) == 20
    assert "… and 30 more" in file.getvalue()


def test_a_closed_terminal_is_a_failed_export() -> None:
    """When nobody reads any more the loss is counted, and the agent goes on."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    b, _ = show(Gone(), exchange_logs="all")
    b.telemetry.exchange(exchange())
    b.telemetry.shutdown()
    assert b.ledger.total("log", "dropped", "export_failed") == 1
    assert b.ledger.open()["log"] == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 µs"), (0.00085, "850 µs"), (0.0123, "12.3 ms"), (0.5, "500 ms"), (0.9999, "1.00 s"), (4.2, "4.20 s")],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations have the unit a person would choose."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(number: int | None, text: str) -> None:
    """Sizes have binary units."""
    assert size(number) == text


def test_plain_text_is_left_alone() -> None:
    """Only what could steer a terminal is escaped."""
    assert plain("Grüße/{id}") == "Grüße/{id}"
    assert plain("a\nb\u202e") == "a\\nb\\u202e"


def test_quantiles_stay_inside_what_was_seen() -> None:
    """An estimate lies inside its bucket and is never above the maximum."""
    cell = Cell(counts=[0, 10, 0, 10], bounds=(1.0, 2.0, 4.0), high=8.0)
    assert [cell.quantile(q) for q in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.5, 2.0, 6.0, 8.0]
    assert Cell().quantile(0.5) == 0
