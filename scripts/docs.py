"""``make docs``: writes the pages of ``docs/`` that are generated; ``--check`` only tells whether they are fresh.

In: the tables in the code. Out: Markdown files; with ``--check``, exit code 1 when one is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from otel_ebpf.kernel.probes import PROBES, Hook
from otel_ebpf.settings_docs import settings_markdown
from otel_ebpf.telemetry import instruments

_DOCS: Final = Path(__file__).parent.parent / "docs"
_PROBES_HEAD: Final = """\
# Hooks

Generated from `otel_ebpf/kernel/probes.py` by `make docs`; do not edit.

Each hook has its alternatives in order of preference; the first one that this kernel allows is taken. None is
mandatory. `otel-ebpf check` says what was taken on this machine, what was tried in vain with the kernel's answer, and
what is lost.
`OTEL_EBPF_PROBES_OFF` takes a hook's name, or `hook.alternative`.
"""


def pages() -> dict[Path, str]:
    """Return every generated page with what it should contain."""
    return {
        _DOCS / "configuration.md": settings_markdown(),
        _DOCS / "metrics.md": instruments.markdown(),
        _DOCS / "probes.md": probes_markdown(),
    }


def stale() -> list[Path]:
    """Return the pages that are not what they should be."""
    return [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def probes_markdown() -> str:
    """Return ``docs/probes.md``."""
    return "\n".join([_PROBES_HEAD, *(_hook(hook) for hook in PROBES)])


def _hook(hook: Hook) -> str:
    rows = [
        f"| `{one.name}` | {', '.join(f'`{at.kind.value}:{at.target}`' for at in one.attachments)} |"
        for one in hook.alternatives
    ]
    told = f"For {hook.purpose}. Without it: {hook.lost_without}."
    return "\n".join([f"## {hook.name}", "", told, "", "| alternative | attached to |", "|---|---|", *rows, ""])


def main() -> int:
    """Write or check the pages."""
    found = stale()
    if "--check" in sys.argv[1:]:
        for path in found:
            print(f"{path.name} is stale: make docs", file=sys.stderr)
        return 1 if found else 0
    for path in found:
        path.write_text(pages()[path], encoding="utf-8")
        print(f"wrote docs/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
