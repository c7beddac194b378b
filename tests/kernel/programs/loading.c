/* SPDX-License-Identifier: GPL-2.0 */
/* What the loading tests load: one program of each kind that this machine can attach, and some that it must refuse. */
#include "loading.h"

BPF_RINGBUF_OUTPUT(events, 16);
BPF_PERCPU_ARRAY(counters, u64, 4);
BPF_F_TABLE("hash", u32, u64, table, 4096, BPF_F_NO_PREALLOC);

#define READ(pointer, field)                                                       \
	({                                                                         \
		__typeof__((pointer)->field) _value;                               \
		bpf_probe_read_kernel(&_value, sizeof(_value), &(pointer)->field); \
		_value;                                                            \
	})

static __always_inline void count(u32 index)
{
	u64 *total = counters.lookup(&index);

	if (total)
		*total += 1;
}

#if USE_exec_tp_btf
/* Typed loads: the verifier checks every offset against the kernel's own types. */
int on_exec(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[TP_sched_process_exec__p];
	struct exec_event event = {};

	event.tgid = task->tgid;
	event.pid = task->pid;
	event.leader_pid = task->group_leader->pid;
	bpf_probe_read_kernel(event.comm, sizeof(event.comm), task->comm);
	events.ringbuf_output(&event, sizeof(event), BPF_RB_NO_WAKEUP);
	count(0);
	return 0;
}
#endif

#if USE_exec_raw_tp
int on_exec_raw(u64 *ctx)
{
	count(1);
	return 0;
}
#endif

#if USE_exec_broken
/* The first argument is taken for an address: the verifier refuses that. */
int on_exec_broken(u64 *ctx)
{
	return *(volatile int *)(ctx[TP_sched_process_exec__old_pid] + 4);
}
#endif

int on_each_file(u64 *ctx)
{
	struct seq_file *seq = ((struct bpf_iter_meta *)ctx[0])->seq;
	struct task_struct *task = (struct task_struct *)ctx[1];
	struct file *file = (struct file *)ctx[3];
	struct file_row row = {};
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	if ((READ(READ(file, f_inode), i_mode) & 0170000) != 0140000) /* S_IFMT, S_IFSOCK */
		return 0;
	socket = READ(file, private_data);
	sk = READ(socket, sk);
	if (!sk || READ(sk, __sk_common.skc_family) != 2 || READ(sk, sk_protocol) != 6)
		return 0;
	row.tgid = task->tgid;
	row.fd = ctx[2];
	row.port = READ(sk, __sk_common.skc_num);
	row.state = READ(sk, __sk_common.skc_state);
	row.family = READ(sk, __sk_common.skc_family);
	row.netns = READ(READ(sk, __sk_common.skc_net.net), ns.inum);
	row.congestion = BF_inet_connection_sock__icsk_ca_state(sk);
	bpf_seq_write(seq, &row, sizeof(row));
	return 0;
}

int on_each_entry(u64 *ctx)
{
	struct seq_file *seq = ((struct bpf_iter_meta *)ctx[0])->seq;
	u32 *key = (u32 *)ctx[2];
	u64 *value = (u64 *)ctx[3];
	struct table_row row = {};

	if (!key || !value)
		return 0;
	row.key = *key;
	row.value = *value;
	bpf_seq_write(seq, &row, sizeof(row));
	return 0;
}
