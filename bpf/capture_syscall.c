/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture source 3: the raw tracepoint sys_exit.
 *
 * Why: it is there on every kernel and needs nothing but the registers. What it costs: a look at every system call of the node
 * (about 25 ns each). What it misses: io_uring, sendmmsg and recvmmsg, 32-bit programs.
 */
#define EXIT_MSG_PEEK 2

static __always_inline int call_moves_bytes(u64 number, u32 *direction)
{
	switch (number) {
	case NR_READ:
	case NR_READV:
	case NR_RECVFROM:
	case NR_RECVMSG:
		*direction = RECEIVE;
		return 1;
	case NR_WRITE:
	case NR_WRITEV:
	case NR_SENDTO:
	case NR_SENDMSG:
	case NR_SENDFILE:
		*direction = SEND;
		return 1;
	}
	return 0;
}

static __always_inline int peeks(u64 number, struct pt_regs *regs)
{
	if (number == NR_RECVFROM)
		return KR(regs, SYSCALL_ARGUMENT_4) & EXIT_MSG_PEEK;
	if (number == NR_RECVMSG)
		return KR(regs, SYSCALL_ARGUMENT_3) & EXIT_MSG_PEEK;
	return 0;
}

int on_syscall_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	s64 length = ctx[1];
	struct payload p = {};
	struct target target;
	struct sock *sk;
	u32 direction;
	u64 number;

	if (length <= 0)
		return 0;
	number = KR(regs, SYSCALL_NUMBER);
	if (!call_moves_bytes(number, &direction))
		return 0;
	sk = socket_of_descriptor(KR(regs, SYSCALL_ARGUMENT_1));
	if (!sk || peeks(number, regs))
		return 0;
	if (!target_find(&target, sk, direction))
		return 0;
	payload_of_syscall(&p, number, KR(regs, SYSCALL_ARGUMENT_2), KR(regs, SYSCALL_ARGUMENT_3));
	target_bytes(&target, sk, 0, direction, &p, length);
	return 0;
}
