"""The border: the probe table is sound, and the C side switches what it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from otel_ebpf.kernel.probes import PROBES, Alternative, Hook

BPF: Final = Path(__file__).parents[2] / "bpf"
ALTERNATIVES: Final = [(hook, alternative) for hook in PROBES for alternative in hook.alternatives]


@pytest.mark.parametrize(("hook", "alternative"), ALTERNATIVES, ids=[f"{h.name}.{a.name}" for h, a in ALTERNATIVES])
def test_an_alternative_is_complete(hook: Hook, alternative: Alternative) -> None:
    """Each has attachments, and names that OTEL_EBPF_PROBES_OFF can take."""
    assert alternative.attachments
    assert re.fullmatch(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*", f"{hook.name}.{alternative.name}")


def test_names_are_unique() -> None:
    """No two hooks, and no two alternatives of a hook, are called the same."""
    assert len({hook.name for hook in PROBES}) == len(PROBES)
    assert len({(hook.name, alternative.name) for hook, alternative in ALTERNATIVES}) == len(ALTERNATIVES)


def test_every_hook_says_what_it_is_for_and_what_is_lost() -> None:
    """`otel-ebpf check` has a sentence for each."""
    assert all(hook.purpose and hook.lost_without and hook.alternatives for hook in PROBES)


def test_switches_of_the_c_side_are_alternatives_of_the_table() -> None:
    """``USE_<hook>_<alternative>`` in C names an alternative there is."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in BPF.glob("*.c"))
    there = {f"USE_{hook.name}_{alternative.name}" for hook, alternative in ALTERNATIVES}
    used = set(re.findall(r"\bUSE_\w+", text))
    assert used - there == set()
