"""The probe table: which places of the kernel are hooked, how, in what order of preference, what is lost without each.

In: nothing. Out: :data:`PROBES`, read by the loader, by ``otel-ebpf check`` and by the generated documentation. No hook
is mandatory: the agent runs with what the kernel allowed, and says what is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from otel_ebpf.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kind(Enum):
    """How a program is attached."""

    TP_BTF = "tp_btf"
    RAW_TP = "raw_tp"
    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"
    ITER = "iter"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One program at one place.

    Attributes:
        kind: How it is attached.
        target: Name of the tracepoint, kernel function or iterator, as the kernel spells it.
        program: Name of the C function.
    """

    kind: Kind
    target: str
    program: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to serve a hook: all attachments hold, or none does.

    Attributes:
        name: Short name, unique within the hook; with ``hook.name`` it is what ``OTEL_EBPF_PROBES_OFF`` takes.
        attachments: What has to be attached, in order.
        requires: Macros of the rendered slices that must be defined and not 0 (``HAVE_TP_sock_recv_length``).
    """

    name: str
    attachments: tuple[Attachment, ...]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hook:
    """Something the agent wants to know from the kernel, and the ways to get it, the best first."""

    name: str
    purpose: str
    lost_without: str
    alternatives: tuple[Alternative, ...]


class State(Enum):
    """What became of a hook."""

    ON = "on"
    OFF = "off"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Failure:
    """An alternative that was tried in vain, and the answer it got."""

    alternative: str
    answer: str


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What became of one hook.

    Attributes:
        hook: Name of the hook.
        state: ``disabled`` means by the user, ``off`` means that no alternative could be attached.
        chosen: Name of the alternative that is attached; None unless the state is ``on``.
        failures: The alternatives before the chosen one, each with its answer.
        lost: What the agent cannot tell now; empty when the state is ``on``.
    """

    hook: str
    state: State
    chosen: str | None
    failures: tuple[Failure, ...]
    lost: str

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values for :mod:`json`."""
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> OutcomeRow:
        """Build the row that :meth:`to_json` described."""
        failures = tuple(Failure(**failure) for failure in value["failures"])
        return cls(value["hook"], State(value["state"]), value["chosen"], failures, value["lost"])


def check_switches(off: Iterable[str], hooks: Iterable[Hook]) -> None:
    """Check that each of *off* names a hook or an alternative of *hooks*.

    Raises:
        SettingError: One does not; the text lists what is allowed.
    """
    hooks = tuple(hooks)
    allowed = [hook.name for hook in hooks]
    allowed += [f"{hook.name}.{alternative.name}" for hook in hooks for alternative in hook.alternatives]
    for name in off:
        if name not in allowed:
            raise SettingError(f"OTEL_EBPF_PROBES_OFF: there is no probe {name!r}; allowed: {', '.join(allowed)}")


def hook_to_json(hook: Hook) -> dict[str, Any]:
    """Return *hook* as plain values for :mod:`json`."""
    value = asdict(hook)
    for alternative in value["alternatives"]:
        for attachment in alternative["attachments"]:
            attachment["kind"] = attachment["kind"].value
    return value


def hook_from_json(value: dict[str, Any]) -> Hook:
    """Build the hook that :func:`hook_to_json` described."""
    alternatives = tuple(
        Alternative(
            one["name"],
            tuple(Attachment(Kind(at["kind"]), at["target"], at["program"]) for at in one["attachments"]),
            tuple(one["requires"]),
        )
        for one in value["alternatives"]
    )
    return Hook(value["name"], value["purpose"], value["lost_without"], alternatives)


def _tracepoint(name: str, program: str) -> tuple[Alternative, ...]:
    """One program at one tracepoint: typed, else raw; the program reads its arguments in the same way."""
    return (
        Alternative("tp_btf", (Attachment(Kind.TP_BTF, name, program),), requires=(f"HAVE_TP_{name}",)),
        Alternative("raw_tp", (Attachment(Kind.RAW_TP, name, program),), requires=(f"HAVE_TP_{name}",)),
    )


def _iterator(target: str, program: str) -> tuple[Alternative, ...]:
    return (Alternative("iter", (Attachment(Kind.ITER, target, program),)),)


_MESSAGE_FENTRY: Final = (
    Attachment(Kind.FENTRY, "tcp_sendmsg", "on_send_enter"),
    Attachment(Kind.FEXIT, "tcp_sendmsg", "on_send_leave"),
    Attachment(Kind.FENTRY, "tcp_recvmsg", "on_receive_enter"),
    Attachment(Kind.FEXIT, "tcp_recvmsg", "on_receive_leave"),
)

_MESSAGE_KPROBE: Final = (
    Attachment(Kind.KPROBE, "tcp_sendmsg", "on_send_enter_kprobe"),
    Attachment(Kind.KRETPROBE, "tcp_sendmsg", "on_send_leave_kprobe"),
    Attachment(Kind.KPROBE, "tcp_recvmsg", "on_receive_enter_kprobe"),
    Attachment(Kind.KRETPROBE, "tcp_recvmsg", "on_receive_leave_kprobe"),
)

_PAGES_KPROBE: Final = (
    Attachment(Kind.KPROBE, "tcp_sendpage", "on_sendpage_enter_kprobe"),
    Attachment(Kind.KRETPROBE, "tcp_sendpage", "on_sendpage_leave_kprobe"),
)

PROBES: Final[tuple[Hook, ...]] = (
    Hook(
        name="payload",
        purpose="HTTP exchanges: the bytes that programs read from and write to their sockets",
        lost_without="HTTP exchanges are not seen",
        alternatives=(
            # Costs nothing to any other system call; from 6.3.
            Alternative(
                "tp_btf",
                (
                    Attachment(Kind.TP_BTF, "sock_recv_length", "on_socket_received"),
                    Attachment(Kind.TP_BTF, "sock_send_length", "on_socket_sent"),
                ),
                requires=("HAVE_TP_sock_recv_length", "HAVE_TP_sock_send_length", "HAVE_ENUM_BPF_FUNC_task_pt_regs"),
            ),
            # Up to 6.4 sendfile takes a way of its own, tcp_sendpage.
            Alternative(
                "fentry_pages",
                (*_MESSAGE_FENTRY, Attachment(Kind.FEXIT, "tcp_sendpage", "on_sendpage_leave")),
                requires=("HAVE_FUNC_tcp_sendpage",),
            ),
            Alternative("fentry", _MESSAGE_FENTRY),
            Alternative("kprobe_pages", (*_MESSAGE_KPROBE, *_PAGES_KPROBE), requires=("HAVE_FUNC_tcp_sendpage",)),
            Alternative("kprobe", _MESSAGE_KPROBE),
            # Looks at every system call of the node: last.
            Alternative(
                "syscall", (Attachment(Kind.RAW_TP, "sys_exit", "on_syscall_exit"),), requires=("HAVE_TP_sys_exit",)
            ),
        ),
    ),
    Hook(
        name="state",
        purpose="connections: opened, established, failed, closed, with handshake times",
        lost_without="new connections are known from their first bytes only; no handshake times, no failed connects",
        alternatives=_tracepoint("inet_sock_set_state", "on_state_change"),
    ),
    Hook(
        name="destroy",
        purpose="the end of a connection: final totals, and the last exchange on it",
        lost_without="closed connections are not reported and stay in the maps until those are full",
        alternatives=_tracepoint("tcp_destroy_sock", "on_destroy"),
    ),
    Hook(
        name="accept",
        purpose="accept queue wait and owner; connects that fail before any packet leaves",
        lost_without="no accept wait; no owner of a server's connection before its first bytes; those connects",
        alternatives=(
            Alternative(
                "fexit",
                (
                    Attachment(Kind.FEXIT, "inet_csk_accept", "on_accept_leave"),
                    Attachment(Kind.FEXIT, "tcp_v4_connect", "on_connect_leave"),
                    Attachment(Kind.FEXIT, "tcp_v6_connect", "on_connect_leave_v6"),
                ),
                requires=("HAVE_FUNC_inet_csk_accept",),
            ),
            Alternative(
                "kretprobe",
                (
                    Attachment(Kind.KRETPROBE, "inet_csk_accept", "on_accept_leave_kprobe"),
                    Attachment(Kind.KPROBE, "tcp_v4_connect", "on_connect_enter_kprobe"),
                    Attachment(Kind.KRETPROBE, "tcp_v4_connect", "on_connect_leave_kprobe"),
                    Attachment(Kind.KPROBE, "tcp_v6_connect", "on_connect_enter_kprobe"),
                    Attachment(Kind.KRETPROBE, "tcp_v6_connect", "on_connect_leave_kprobe"),
                ),
            ),
            # Looks at every system call of the node: last.
            Alternative(
                "syscall", (Attachment(Kind.RAW_TP, "sys_exit", "on_connection_exit"),), requires=("HAVE_TP_sys_exit",)
            ),
        ),
    ),
    Hook(
        name="retransmit",
        purpose="retransmits by type",
        lost_without="retransmits are counted without their type",
        alternatives=_tracepoint("tcp_retransmit_skb", "on_retransmit"),
    ),
    Hook(
        name="retransmit_synack",
        purpose="the server's handshake time when a SYN-ACK had to be sent again",
        lost_without="such handshakes have no time",
        alternatives=_tracepoint("tcp_retransmit_synack", "on_retransmit_synack"),
    ),
    Hook(
        name="send_reset",
        purpose="connections this host reset",
        lost_without="resets sent are not counted",
        alternatives=_tracepoint("tcp_send_reset", "on_send_reset"),
    ),
    Hook(
        name="receive_reset",
        purpose="connections the other end reset",
        lost_without="resets received are not counted",
        alternatives=_tracepoint("tcp_receive_reset", "on_receive_reset"),
    ),
    Hook(
        name="sweep",
        purpose="the last exchange of a connection that stays open",
        lost_without="it is reported when the next request begins or the connection closes",
        alternatives=_iterator("bpf_map_elem", "on_each_exchange"),
    ),
    Hook(
        name="flows",
        purpose="totals of connections while they are open",
        lost_without="bytes, packets and round-trip times are reported at the end of a connection only",
        alternatives=_iterator("bpf_map_elem", "on_each_flow"),
    ),
    Hook(
        name="discovery",
        purpose="connections older than the agent, with their owner and role",
        lost_without="such a connection is known from its first bytes on; its role by its first request",
        alternatives=(
            Alternative(
                "iter",
                (
                    Attachment(Kind.ITER, "task_file", "on_each_listener"),
                    Attachment(Kind.ITER, "task_file", "on_each_socket"),
                ),
            ),
        ),
    ),
)
