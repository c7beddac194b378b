/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture source 1: the tracepoints sock:sock_recv_length and sock:sock_send_length (6.3+), as BTF tracepoints.
 *
 * Why these: they hand over the socket and the byte count of every call that moved bytes, sendfile included, and cost nothing to
 * any other system call. The user's arguments come from the registers saved at system call entry. What they miss: payload of
 * io_uring (the registers are not the buffer); its bytes are counted.
 */
#define MSG_PEEK 2

static __always_inline int is_tcp_typed(u64 sk)
{
	u64 family;
	u64 protocol;

	LOAD(u16, family, sk, OFFSET(struct sock, __sk_common.skc_family));
	if (family != AF_INET && family != AF_INET6)
		return 0;
	LOAD(u16, protocol, sk, OFFSET(struct sock, sk_protocol));
	return protocol == IPPROTO_TCP;
}

static __always_inline void payload_of_registers(struct payload *p)
{
	void *regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	u64 number;
	u64 argument;
	u64 vectors;

	LOAD(u64, number, regs, OFFSET(struct pt_regs, SYSCALL_NUMBER));
	LOAD(u64, argument, regs, OFFSET(struct pt_regs, SYSCALL_ARGUMENT_2));
	LOAD(u64, vectors, regs, OFFSET(struct pt_regs, SYSCALL_ARGUMENT_3));
	payload_of_syscall(p, number, argument, vectors);
}

static __always_inline int on_socket_bytes(u64 sk, s64 length, u32 direction)
{
	struct payload p = {};
	struct target target;

	if (length <= 0 || !is_tcp_typed(sk))
		return 0;
	if (!target_find(&target, (struct sock *)sk, direction))
		return 0;
	payload_of_registers(&p);
	target_bytes(&target, (struct sock *)sk, 1, direction, &p, length);
	return 0;
}

int on_socket_received(u64 *ctx)
{
	u64 sk;
	u64 length;
	u64 flags;

	LOAD(u64, sk, ctx, 0);
	LOAD(u64, length, ctx, 8);
	LOAD(u64, flags, ctx, 16);
	if (flags & MSG_PEEK)
		return 0;
	return on_socket_bytes(sk, (int)length, RECEIVE);
}

int on_socket_sent(u64 *ctx)
{
	u64 sk;
	u64 length;

	LOAD(u64, sk, ctx, 0);
	LOAD(u64, length, ctx, 8);
	return on_socket_bytes(sk, (int)length, SEND);
}
