"""``make demo``: real traffic between network namespaces of its own, and the agent's account of it next to the truth.

In: nothing. Out: a table; exit code 0 when sent and seen agree for every method, path and status, 1 when not. It takes
half a minute; everything it starts is gone when it ends, also on Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from tests.support.agent import running_agent
from tests.support.clients import Exchange, Request, curl, h2load
from tests.support.network import Namespace, veth_pair
from tests.support.servers import API_BODY, Server, nginx
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.otlp import Telemetry

_ROUNDS: Final = 10
_ROUND_S: Final = 2.0
_SETTLE_S: Final = 1.5  # the last exchange of an open connection is reported when it has been idle for a moment
_CURLS: Final = ("/api/hello", "/files/1024", "/status/404")
_H2LOADED: Final = 200
_KNOWN: Final = 60
_MOST_DIFFERENCES: Final = 20  # more would push the table off the screen
_NUMBER: Final = 200  # of the pair's subnet: not that of the tests

Key = tuple[str, str, int]


def main() -> int:
    """Run the demo; needs root for namespaces and for the agent, and asks sudo for it."""
    if os.geteuid() != 0:
        os.execvp("sudo", ["sudo", "-E", sys.executable, "-m", "scripts.demo"])  # noqa: S606
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    console = Console()
    console.print(_INTRODUCTION)
    try:
        sent, telemetry = _run(console)
    except KeyboardInterrupt:
        console.print("stopped; everything is tidied up")
        return 130
    return _compare(console, sent, telemetry)


_INTRODUCTION: Final = f"""\
[bold]otel-ebpf demo[/bold]
 · two network namespaces joined by a virtual cable, nothing else of this machine is touched
 · nginx in one; curl, a Python client and h2load in the other, for {_ROUNDS * _ROUND_S:.0f} seconds
 · the agent beside them, metrics to this console, one log record per exchange to a file
 · at the end: what was sent beside what the agent saw, from the client's and from the server's side
"""


def _run(console: Console) -> tuple[Counter[Exchange], Telemetry]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-ebpf-demo-")))
        web, clients = stack.enter_context(veth_pair(_NUMBER))
        server = stack.enter_context(nginx(folder / "nginx", namespace=web))
        console.print(f"nginx listens on {server.url}; starting the agent …")
        settings = {
            "OTEL_METRICS_EXPORTER": "console",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "10000",
            "OTEL_EBPF_AUTO_TARGET_EXE": "*/nginx,*/curl,*/h2load,*/python3*",
        }
        agent = stack.enter_context(running_agent(folder / "agent", settings, show=True))
        console.print("the agent is capturing; sending …")
        sent = _send(console, server, clients)
        time.sleep(_SETTLE_S)
        console.print("stopping the agent …")
        return sent, _of_port(agent.finished(), server.port)


def _of_port(telemetry: Telemetry, port: int) -> Telemetry:
    """What concerns the demo's server: other programs of the machine may talk at the same time."""
    telemetry.logs = [log for log in telemetry.logs if log.attributes.get("server.port") == port]
    return telemetry


def _send(console: Console, server: Server, clients: Namespace) -> Counter[Exchange]:
    sent: Counter[Exchange] = Counter()
    senders: tuple[Callable[[Server, Namespace, int], Counter[Exchange]], ...] = (_curl, _python, _h2load)
    for number in range(_ROUNDS):
        began = time.monotonic()
        for sender in senders:
            sent += sender(server, clients, number)
        console.print(f"[dim]{sum(sent.values()):6} requests sent and answered[/dim]")
        time.sleep(max(0.0, _ROUND_S - (time.monotonic() - began)))
    return sent


def _curl(server: Server, clients: Namespace, _: int) -> Counter[Exchange]:
    """One connection per request."""
    sent: Counter[Exchange] = Counter()
    for path in _CURLS:
        status, size = curl(server.url + path, namespace=clients)
        sent[Exchange("GET", path, status, size, 0)] += 1
    status, size = curl(f"{server.url}/created/23", "-X", "PUT", "-d", "x" * 100, namespace=clients)
    sent[Exchange("PUT", "/created/23", status, size, 100)] += 1
    return sent


def _python(server: Server, clients: Namespace, number: int) -> Counter[Exchange]:
    """Kept alive, one by one and pipelined: a known mix of methods, paths, statuses and sizes."""
    return KnownWorkload(requests=_KNOWN, seed=number).run_apart(server.host, server.port, clients)


def _h2load(server: Server, clients: Namespace, number: int) -> Counter[Exchange]:
    """As fast as it goes on four connections."""
    path, status, size = (("/api/fast", 200, len(API_BODY)), ("/files/65537", 200, 65537))[number % 2]
    h2load(server.url + path, requests=_H2LOADED, connections=4, namespace=clients)
    return Counter({Request(b"GET", path.encode()).answered(status, size): _H2LOADED})


def _compare(console: Console, sent: Counter[Exchange], telemetry: Telemetry) -> int:
    seen = {role: telemetry.exchange_counts(role) for role in ("server", "client")}
    console.print(_table(sent, seen))
    wrong = [
        f"{role} side: {difference:+d} of {exchange}"
        for role, counts in seen.items()
        for exchange, difference in _different(sent, counts).items()
    ]
    for line in wrong[:_MOST_DIFFERENCES]:
        console.print(f"[red]{line}[/red]")
    total = sum(sent.values())
    if wrong:
        console.print(f"[bold red]sent and seen do not agree ({len(wrong)} kinds of exchange)[/bold red]")
        return 1
    console.print(f"[bold green]sent = seen: all {total} exchanges, on both sides, with their body sizes[/bold green]")
    return 0


def _table(sent: Counter[Exchange], seen: dict[str, Counter[Exchange]]) -> Table:
    table = Table(title="sent and seen", title_justify="left")
    table.add_column("method")
    table.add_column("path")
    for name in ("status", "sent", "server saw", "client saw"):
        table.add_column(name, justify="right")
    table.add_column("")
    keyed, server, client = (_by_key(counts) for counts in (sent, seen["server"], seen["client"]))
    for key in sorted(keyed.keys() | server.keys() | client.keys(), key=lambda key: (key[1], key[0], key[2])):
        counts = (keyed[key], server[key], client[key])
        mark = "[green]✓[/green]" if len(set(counts)) == 1 else "[red]✗[/red]"
        table.add_row(key[0], key[1], str(key[2]), *map(str, counts), mark)
    return table


def _by_key(counts: Counter[Exchange]) -> Counter[Key]:
    keyed: Counter[Key] = Counter()
    for exchange, count in counts.items():
        keyed[exchange.method, exchange.path, exchange.status] += count
    return keyed


def _different(sent: Counter[Exchange], seen: Counter[Exchange]) -> dict[Exchange, int]:
    """What was seen more (or, below zero, less) often than it was sent."""
    return {one: seen[one] - sent[one] for one in sent.keys() | seen.keys() if seen[one] != sent[one]}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
