"""What people and machines read of a bench: a table, and ``results.json``.

In: measurements. Out: text on a console, a file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from bench.figures import FIGURES, Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

_MARKS: Final = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}


def show(console: Console, values: Mapping[str, float]) -> None:
    """Print the table of everything that was measured."""
    table = Table(title="otel-ebpf bench", title_justify="left")
    table.add_column("what")
    for name in ("value", "target"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    table.add_column("met?")
    table.add_column("best known peer")
    for figure in FIGURES:
        if figure.name in values:
            table.add_row(*_row(figure, values[figure.name]))
    console.print(table)


def write(path: Path, values: Mapping[str, float]) -> None:
    """Write the list of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_result(figure, values[figure.name]) for figure in FIGURES if figure.name in values]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def missed(values: Mapping[str, float]) -> list[str]:
    """Names of the figures that do not meet their target."""
    return [figure.name for figure in FIGURES if figure.name in values and figure.met(values[figure.name]) is False]


def _row(figure: Figure, value: float) -> tuple[str, ...]:
    target = "" if figure.target is None else f"{'≥' if figure.more_is_better else '≤'} {figure.target:g}"
    return figure.title, _number(value), target, figure.unit, _MARKS[figure.met(value)], figure.reference


def _result(figure: Figure, value: float) -> dict[str, Any]:
    return {
        "name": figure.name,
        "value": round(value, 6),
        "unit": figure.unit,
        "target": figure.target,
        "met": figure.met(value),
        "reference": figure.reference,
    }


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
