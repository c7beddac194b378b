"""``python -m bench``: run the measurements, print the table, write ``bench/out/results.json``.

In: command line. Out: exit code 0 when every target is met, 1 when one is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from bench import capture_cost, report, user_cost, whole_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.figures import Measurement

_RESULTS: Final = Path(__file__).parent / "out" / "results.json"
_PARTS: Final = ("user", "capture", "agent")


def main() -> int:
    """Measure what the command line asks for."""
    arguments = _arguments()
    if os.geteuid() != 0 and set(arguments.only) != {"user"}:
        os.execvp("sudo", ["sudo", "-E", sys.executable, "-m", "bench", *sys.argv[1:]])  # noqa: S606
    console = Console() if sys.stdout.isatty() else Console(width=150)
    if others := _other_agents():
        console.print(f"[yellow]another agent runs (process {others}): its cost is in every figure[/yellow]")
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="otel-ebpf-bench-") as folder:
        for measurement in _measure(arguments, Path(folder), lambda text: console.print(f"[dim]· {text}[/dim]")):
            values[measurement.name] = measurement.value
    report.show(console, values)
    report.write(arguments.output, values)
    console.print(f"written to {arguments.output}")
    missed = report.missed(values)
    if missed:
        console.print(f"[red]missed: {', '.join(missed)}[/red]")
    return 1 if missed else 0


def _measure(arguments: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Iterator[Measurement]:
    quick = arguments.quick
    if "user" in arguments.only:
        yield from user_cost.measure(say, batches=20 if quick else 50)
    if "capture" in arguments.only:
        yield from capture_cost.measure(folder / "capture", say, rounds=1 if quick else 4, blocks=10 if quick else 20)
    if "agent" in arguments.only:
        yield from whole_agent.measure(folder / "agent", say, seconds=3 if quick else 20)


def _other_agents() -> str:
    """Process ids of agents that run already; what they attached costs every program of the machine."""
    running = (path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_agent(path))
    return ", ".join(path.parent.name for path in running)


def _is_agent(command_line: Path) -> bool:
    try:
        words = command_line.read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.endswith(b"/otel-ebpf") for word in words[:2])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=_PARTS, help="measure this part only (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="a minute instead of five; the figures are rougher")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="where the results go (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(_PARTS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
