"""The settings as text: ``docs/configuration.md``, and what ``otel-ebpf settings`` prints.

In: the table of :mod:`otel_ebpf.config`. Out: Markdown, or rows with the value and source of each setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_ebpf.config import PREFIX, Settings, given

_INTRODUCTION: Final = """\
# Configuration

Generated from `otel_ebpf/config.py` by `make docs`; do not edit.

Everything is set by environment variables. An empty variable counts as unset. A value that is not allowed, or an
unknown `OTEL_EBPF_` variable, ends the agent at once with exit code 2 and a sentence that names it.
`otel-ebpf settings` shows what is in force and where each value comes from.

The OTLP exporters read further standard variables by themselves: `OTEL_EXPORTER_OTLP_HEADERS`, `…_COMPRESSION`,
`…_TIMEOUT`, `…_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE`, `…_INSECURE`.
"""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is in force.

    Attributes:
        name: The environment variable.
        value: Its text when given, else the default; where the default depends on other settings, what it came to.
        default: The default as a person would write it; empty: none.
        source: ``environment`` or ``default``.
        allowed: What it may be.
        help: What it does.
    """

    name: str
    value: str
    default: str
    source: str
    allowed: str
    help: str

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


def setting_rows(environment: Mapping[str, str]) -> list[SettingRow]:
    """Return every setting in the table's order, with the value in force.

    Raises:
        SettingError: The environment is not valid.
    """
    settings = Settings.from_environment(environment)
    return [_row(row.name, row.metadata, settings, environment) for row in fields(Settings)]


def _row(name: str, metadata: Mapping[str, Any], settings: Settings, environment: Mapping[str, str]) -> SettingRow:
    env, default = metadata["env"], metadata["default"]
    text = given(environment, env)
    value = text or (_shown(getattr(settings, name)) if metadata["derived"] else default)
    return SettingRow(
        env, value, default, "environment" if text else "default", metadata["check"].allowed, metadata["help"]
    )


def _shown(value: object) -> str:
    """Derived defaults only: a word, or the metric interval, which is written in milliseconds."""
    return f"{value * 1000:.0f}" if isinstance(value, float) else str(value)


def print_rows(rows: list[SettingRow], console: Console) -> None:
    """Print the settings for a person; what was given stands out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("setting", "value", "source"):
        table.add_column(column, no_wrap=column != "value", overflow="fold")
    for row in rows:
        style = "green" if row.source == "environment" else None
        table.add_row(row.name, Text(row.value), row.source, style=style)
    console.print(table)


def settings_markdown() -> str:
    """Return ``docs/configuration.md``."""
    rows = setting_rows({})
    own = [row for row in rows if row.name.startswith(PREFIX)]
    standard = [row for row in rows if not row.name.startswith(PREFIX)]
    return "\n".join(
        [_INTRODUCTION, "## OpenTelemetry's own", "", *_table(standard), "", "## The agent's", "", *_table(own), ""]
    )


def _table(rows: list[SettingRow]) -> list[str]:
    head = ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
    return head + [
        f"| `{row.name}` | {_code(row.default)} | {_cell(row.allowed)} | {_cell(row.help)} |" for row in rows
    ]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
