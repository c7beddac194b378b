"""The plan: alternatives in order, refusals kept word for word, switches of the user respected."""

from __future__ import annotations

import json
import re

import pytest

from otel_ebpf.errors import SettingError
from otel_ebpf.kernel.plan import Plan, Refused
from otel_ebpf.kernel.probes import (
    PROBES,
    Alternative,
    Attachment,
    Failure,
    Hook,
    Kind,
    OutcomeRow,
    State,
    check_switches,
    hook_from_json,
    hook_to_json,
)


def alternative(name: str) -> Alternative:
    """An alternative with one attachment."""
    return Alternative(name, (Attachment(Kind.FENTRY, "tcp_sendmsg", f"on_{name}"),), (f"HAVE_{name}",))


HOOKS = (
    Hook("payload", "bytes", "no bytes", (alternative("best"), alternative("good"), alternative("poor"))),
    Hook("reset", "resets", "no resets", (alternative("only"),)),
)


def refuse(*names: str) -> object:
    """A trial that refuses the alternatives of these names."""

    def trial(one: Alternative) -> None:
        if one.name in names:
            raise Refused(f"{one.name} is refused")

    return trial


def settled(off: tuple[str, ...] = (), refused: tuple[str, ...] = ()) -> Plan:
    """A plan after its first round."""
    plan = Plan(HOOKS, off)
    plan.settle(refuse(*refused))  # type: ignore[arg-type]
    return plan


def rows(plan: Plan) -> list[OutcomeRow]:
    """The report."""
    return [choice.row() for choice in plan.choices]


def test_takes_the_first_that_holds() -> None:
    """The alternatives before the chosen one are told with their answers."""
    assert rows(settled(refused=("best",))) == [
        OutcomeRow("payload", State.ON, "good", (Failure("best", "best is refused"),), ""),
        OutcomeRow("reset", State.ON, "only", (), ""),
    ]


def test_a_hook_without_any_is_off_and_says_what_is_lost() -> None:
    """No hook is mandatory: one that nothing serves is a row like the others."""
    assert rows(settled(refused=("only",)))[1] == OutcomeRow(
        "reset", State.OFF, None, (Failure("only", "only is refused"),), "no resets"
    )


def test_a_refusal_after_the_trial_moves_on() -> None:
    """A program that the kernel refuses though the trial held makes way for the next alternative, for good."""
    plan = settled()
    next(iter(plan.chosen()))[0].refuse("too complex")
    plan.settle(refuse("good"))  # type: ignore[arg-type]
    failures = (Failure("best", "too complex"), Failure("good", "good is refused"))
    assert rows(plan)[0] == OutcomeRow("payload", State.ON, "poor", failures, "")


def test_a_hook_that_is_switched_off_is_not_tried() -> None:
    """A whole hook that the user switched off is disabled, not failed."""
    plan = settled(off=("payload",), refused=("best",))
    assert rows(plan)[0] == OutcomeRow("payload", State.DISABLED, None, (), "no bytes")
    assert [choice.hook.name for choice, _ in plan.chosen()] == ["reset"]


def test_an_alternative_that_is_switched_off_is_passed_over() -> None:
    """Alternatives can be switched off one by one; all of them off means disabled, some refused means off."""
    off = ("payload.best", "payload.poor", "reset.only")
    assert rows(settled(off=off))[0] == OutcomeRow(
        "payload", State.ON, "good", (Failure("best", "switched off by a setting"),), ""
    )
    assert rows(settled(off=off))[1].state is State.DISABLED
    assert rows(settled(off=off, refused=("good",)))[0].state is State.OFF


def test_only_what_is_chosen_is_compiled() -> None:
    """The macros name every alternative; exactly the chosen ones are 1."""
    assert settled(refused=("best",)).macros() == {
        "USE_payload_best": 0,
        "USE_payload_good": 1,
        "USE_payload_poor": 0,
        "USE_reset_only": 1,
    }


@pytest.mark.parametrize("row", rows(settled(off=("reset",), refused=("best",))))
def test_rows_survive_json(row: OutcomeRow) -> None:
    """A row crosses from the child as JSON and comes out the same."""
    assert OutcomeRow.from_json(json.loads(json.dumps(row.to_json()))) == row


@pytest.mark.parametrize("hook", PROBES, ids=lambda hook: hook.name)
def test_hooks_survive_json(hook: Hook) -> None:
    """The probe table crosses to the child as JSON and comes out the same."""
    assert hook_from_json(json.loads(json.dumps(hook_to_json(hook)))) == hook


def test_a_switch_that_names_nothing_is_refused() -> None:
    """An unknown name in the setting is an error that lists what is allowed; known ones pass."""
    check_switches(("payload", "payload.good", "reset.only"), HOOKS)
    sentence = "OTEL_EBPF_PROBES_OFF: there is no probe 'good'; allowed: payload, reset, payload.best, payload.good"
    with pytest.raises(SettingError, match="^" + re.escape(sentence)):
        check_switches(("good",), HOOKS)


def test_names_of_the_table_are_c_identifiers_and_unique() -> None:
    """Names become macros (``USE_<hook>_<alternative>``), so they have to be words, and different ones."""
    names = [f"{hook.name}_{one.name}" for hook in PROBES for one in hook.alternatives]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert len(set(names)) == len(names)


def test_every_hook_says_what_it_is_for() -> None:
    """Purpose and loss are told in one line each, and there is at least one alternative with an attachment."""
    for hook in PROBES:
        assert len(hook.purpose.splitlines()) == len(hook.lost_without.splitlines()) == 1, hook.name
        assert all(one.attachments for one in hook.alternatives), hook.name
        assert hook.alternatives, hook.name
