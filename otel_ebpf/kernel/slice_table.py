"""Which parts of the kernel's types the C under ``bpf/`` names: the table that the slices are rendered from.

A field is a path of members (``__sk_common.skc_num``). ``new=old|older`` says that the member has other names on other
kernels, the first one being ours. What a kernel does not have is rendered as ``HAVE_… 0``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to render.

    Attributes:
        structs: Fields by struct or union.
        enums: Values by enum; an empty tuple means all. Rendered as macros, not as an enum.
        helpers: BPF helpers, without ``bpf_``: only asked for, as ``HAVE_ENUM_BPF_FUNC_<helper>``.
        tracepoints: Tracepoints whose arguments programs read.
        functions: Kernel functions whose parameters programs read.
    """

    structs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    helpers: tuple[str, ...] = ()
    tracepoints: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values for :mod:`json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Wanted:
        """Build the table that :meth:`to_json` described."""
        return cls(
            {name: tuple(fields) for name, fields in value["structs"].items()},
            {name: tuple(values) for name, values in value["enums"].items()},
            tuple(value["helpers"]),
            tuple(value["tracepoints"]),
            tuple(value["functions"]),
        )


TABLE: Final = Wanted(
    structs={
        "sock": (
            "__sk_common.skc_daddr",
            "__sk_common.skc_rcv_saddr",
            "__sk_common.skc_dport",
            "__sk_common.skc_num",
            "__sk_common.skc_family",
            "__sk_common.skc_state",
            "__sk_common.skc_net.net",
            "__sk_common.skc_v6_daddr",
            "__sk_common.skc_v6_rcv_saddr",
            "__sk_common.skc_flags",
            "__sk_common.skc_cookie",
            "sk_protocol",
            "sk_type",
            "sk_err",
            "sk_err_soft",
            "sk_socket",
            "sk_shutdown",
        ),
        "tcp_sock": (
            "srtt_us",
            "total_retrans",
            "bytes_acked",
            "bytes_received",
            "bytes_sent",
            "bytes_retrans",
            "segs_in",
            "segs_out",
            "data_segs_in",
            "data_segs_out",
            "snd_una",
            "snd_nxt",
            "write_seq",
            "copied_seq",
            "rcv_nxt",
            "tcp_mstamp",
        ),
        "inet_connection_sock": ("icsk_ca_state", "icsk_pending", "icsk_retransmits"),
        "inet_sock": ("inet_sport",),
        "request_sock": (
            "__req_common.skc_daddr",
            "__req_common.skc_rcv_saddr",
            "__req_common.skc_num",
            "__req_common.skc_dport",
            "__req_common.skc_family",
            "__req_common.skc_v6_daddr",
            "__req_common.skc_v6_rcv_saddr",
            "__req_common.skc_net.net",
            "num_retrans",
            "num_timeout",
            "__req_common.skc_listener",
        ),
        "tcp_request_sock": ("snt_synack",),
        "net": ("ns.inum",),
        "task_struct": ("tgid", "pid", "comm", "group_leader", "files", "start_boottime=real_start_time"),
        "files_struct": ("fdt",),
        "fdtable": ("fd", "max_fds"),
        "file": ("private_data", "f_inode"),
        "inode": ("i_mode",),
        "socket": ("sk", "type", "state"),
        "msghdr": ("msg_iter", "msg_flags"),
        "iov_iter": (
            "iter_type=type",
            "data_source",
            "iov_offset",
            "count",
            "__iov=iov",
            "ubuf",
            "__ubuf_iovec",
            "nr_segs",
            "kvec",
        ),
        "iovec": ("iov_base", "iov_len"),
        "kvec": ("iov_base", "iov_len"),
        "bpf_iter__task_file": ("meta", "task", "fd", "file"),
        "bpf_iter__bpf_map_elem": ("meta", "map", "key", "value"),
        "bpf_iter_meta": ("seq", "session_id", "seq_num"),
    },
    enums={"iter_type": (), "tcp_ca_state": ()},
    helpers=(
        "ringbuf_output",
        "ringbuf_reserve",
        "get_current_task_btf",
        "get_socket_cookie",
        "task_pt_regs",
        "skc_to_tcp_sock",
        "sock_from_file",
        "sk_storage_get",
        "ktime_get_boot_ns",
        "ktime_get_tai_ns",
        "loop",
    ),
    tracepoints=(
        "sock_recv_length",
        "sock_send_length",
        "sys_exit",
        "inet_sock_set_state",
        "tcp_destroy_sock",
        "tcp_retransmit_skb",
        "tcp_retransmit_synack",
        "tcp_send_reset",
        "tcp_receive_reset",
        "tcp_rcv_space_adjust",
        "sched_process_exec",
        "sched_process_exit",
        "sched_process_fork",
    ),
    functions=(
        "tcp_sendmsg",
        "tcp_recvmsg",
        "tcp_sendpage",
        "inet_csk_accept",
        "tcp_v4_connect",
        "tcp_v6_connect",
    ),
)
