"""The answer of ``otel-ebpf check``: what this node allows, hook by hook, and what is lost.

In: the probe report and a look at the machine. Out: a table for people, JSON for programs, and a verdict.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_ebpf.kernel.probes import OutcomeRow, State
from otel_ebpf.privileges import Privilege, own_status, privileges

# The main job: payload is read, and connections are followed. Everything else makes it better.
MAIN_HOOKS: Final = ("payload", "state")
_BTF: Final = "sys/kernel/btf/vmlinux"
_TRACEFS: Final = ("sys/kernel/tracing/events", "sys/kernel/debug/tracing/events")
_STATE_STYLES: Final = {State.ON: "green", State.OFF: "red", State.DISABLED: "yellow"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What this node allows.

    Attributes:
        kernel: Its release.
        machine: Its architecture.
        btf: Whether the kernel describes its own types, which everything is compiled against.
        tracefs: Whether tracefs is mounted; none of today's hooks needs it.
        privileges: The capabilities of this process.
        hooks: What became of every hook; empty when nothing could be loaded.
        problem: Why nothing could be loaded; None when it could.
    """

    kernel: str
    machine: str
    btf: bool
    tracefs: bool
    privileges: tuple[Privilege, ...]
    hooks: tuple[OutcomeRow, ...]
    problem: str | None = None

    @property
    def can_run(self) -> bool:
        """Whether payload can be captured and connections followed here."""
        on = {row.hook for row in self.hooks if row.state is State.ON}
        return self.problem is None and on.issuperset(MAIN_HOOKS)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values for :mod:`json`."""
        return {
            "can_run": self.can_run,
            "problem": self.problem,
            "kernel": {"release": self.kernel, "machine": self.machine, "btf": self.btf, "tracefs": self.tracefs},
            "privileges": [row.to_json() for row in self.privileges],
            "hooks": [row.to_json() for row in self.hooks],
        }


def look_around(hooks: tuple[OutcomeRow, ...], problem: str | None = None, root: Path = Path("/")) -> CheckReport:
    """Return the report of this machine with what became of the hooks; *root* is where its file system begins."""
    return CheckReport(
        platform.release(),
        platform.machine(),
        (root / _BTF).is_file(),
        any((root / path).is_dir() for path in _TRACEFS),
        privileges(own_status(root / "proc")),
        hooks,
        problem,
    )


def print_report(report: CheckReport, console: Console) -> None:
    """Print the report as a person reads it: what works first, then what does not and why."""
    console.print(Group(_machine(report), "", _privileges(report), *_hooks(report), "", _verdict(report)))


def _machine(report: CheckReport) -> RenderableType:
    table = _grid()
    table.add_row("kernel", f"{report.kernel} ({report.machine})")
    table.add_row("BTF", _yes("present") if report.btf else _no(f"/{_BTF} is missing: nothing can be compiled"))
    table.add_row("tracefs", _yes("mounted") if report.tracefs else Text("not mounted (not needed)", "yellow"))
    return table


def _privileges(report: CheckReport) -> RenderableType:
    table = _table("capability", "", "what for")
    for row in report.privileges:
        text = Text(row.purpose)
        if row.lost:
            text.append(f"\nwithout it {row.lost}", "yellow")
        table.add_row(row.name, _yes("yes") if row.held else _no("no"), text)
    return table


def _hooks(report: CheckReport) -> list[RenderableType]:
    if not report.hooks:
        return []
    table = _table("hook", "", "by", "what is lost, and what was tried in vain")
    for row in report.hooks:
        answers = Text(row.lost)
        for failure in row.failures:
            answers.append(f"{chr(10) if answers else ''}{failure.alternative}: {failure.answer}", "dim")
        table.add_row(row.hook, Text(row.state.value, _STATE_STYLES[row.state]), row.chosen or "", answers)
    return ["", table]


def _verdict(report: CheckReport) -> Text:
    if report.can_run:
        return _yes("The agent can run here.")
    return _no(f"The agent cannot run here: {report.problem or _missing(report)}.")


def _missing(report: CheckReport) -> str:
    off = [f"{row.hook} ({row.lost})" for row in report.hooks if row.hook in MAIN_HOOKS and row.state is not State.ON]
    return "no way was found for " + " and ".join(off or MAIN_HOOKS)


def _yes(text: str) -> Text:
    return Text(text, "green")


def _no(text: str) -> Text:
    return Text(text, "red")


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    return grid


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1])
    return table
