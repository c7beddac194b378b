/* SPDX-License-Identifier: GPL-2.0 */
/*
 * accept() and connect() where kernel functions cannot be probed: by their return, at the raw tracepoint sys_exit.
 *
 * Why: no tracepoint of the network stack fires when a connection is taken from the accept queue, or refused before a SYN. What it
 * costs: a look at every system call of the node (about 25 ns each). What it misses: io_uring, 32-bit programs.
 */
int on_connection_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	s64 result = ctx[1];
	u64 number = KR(regs, SYSCALL_NUMBER);
	struct sock *sk;

	if (number == NR_ACCEPT || number == NR_ACCEPT4) {
		sk = result < 0 ? 0 : socket_of_descriptor(result);
		if (sk)
			flow_accepted(sk);
	} else if (number == NR_CONNECT && result < 0) {
		sk = socket_of_descriptor(KR(regs, SYSCALL_ARGUMENT_1));
		if (sk)
			flow_refused_locally(sk, -result);
	}
	return 0;
}
