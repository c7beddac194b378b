"""Which alternative of each hook is the one to try: the first that the kernel has not refused.

In: the probe table, what the user switched off, the kernel's refusals. Out: the choice, the macros that tell the C
which programs are needed, and the rows of the report. No kernel here: whoever plans does the trying.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_ebpf.kernel.probes import Alternative, Failure, Hook, OutcomeRow, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SWITCHED_OFF: Final = "switched off by a setting"


class Refused(Exception):  # noqa: N818 - no error of ours: the kernel's answer
    """An alternative that did not hold; the text is the answer."""


@dataclass(slots=True)
class Choice:
    """The way of one hook through its alternatives."""

    hook: Hook
    disabled: bool
    failures: list[Failure] = field(default_factory=list)

    @property
    def alternative(self) -> Alternative | None:
        """The alternative that is next, None when there is no more."""
        tried = len(self.failures)
        return None if self.disabled or tried >= len(self.hook.alternatives) else self.hook.alternatives[tried]

    def refuse(self, answer: str) -> None:
        """Note why the alternative that was next did not hold; the one after it is next now."""
        self.failures.append(Failure(self.hook.alternatives[len(self.failures)].name, answer))

    def row(self) -> OutcomeRow:
        """Say what became of the hook, if the alternative that is next holds."""
        hook, failures = self.hook, tuple(self.failures)
        if self.alternative:
            return OutcomeRow(hook.name, State.ON, self.alternative.name, failures, "")
        disabled = all(failure.answer == SWITCHED_OFF for failure in failures)
        return OutcomeRow(hook.name, State.DISABLED if disabled else State.OFF, None, failures, hook.lost_without)


class Plan:
    """The choices of all hooks.

    Args:
        hooks: The probe table.
        off: Hooks (``hook``) and alternatives (``hook.alternative``) that must not be used.
    """

    def __init__(self, hooks: Iterable[Hook], off: Iterable[str]) -> None:
        self._off = frozenset(off)
        self.choices = tuple(Choice(hook, hook.name in self._off) for hook in hooks)

    def settle(self, trial: Callable[[Alternative], None]) -> None:
        """Move every hook on to the next alternative that *trial* does not refuse (by raising :class:`Refused`)."""
        for choice in self.choices:
            while alternative := choice.alternative:
                if f"{choice.hook.name}.{alternative.name}" in self._off:
                    choice.refuse(SWITCHED_OFF)
                    continue
                try:
                    trial(alternative)
                except Refused as answer:
                    choice.refuse(str(answer))
                else:
                    break

    def chosen(self) -> Iterator[tuple[Choice, Alternative]]:
        """Every hook that still has an alternative, with it."""
        for choice in self.choices:
            if choice.alternative:
                yield choice, choice.alternative

    def macros(self) -> dict[str, int]:
        """``USE_<hook>_<alternative>``: 1 of what is chosen, else 0: the C leaves out what is not used."""
        return {
            f"USE_{choice.hook.name}_{alternative.name}": int(alternative is choice.alternative)
            for choice in self.choices
            for alternative in choice.hook.alternatives
        }
