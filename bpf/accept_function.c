/* SPDX-License-Identifier: GPL-2.0 */
/*
 * accept() and connect() by the kernel's own functions: inet_csk_accept, tcp_v4_connect, tcp_v6_connect.
 *
 * Why: they run for every way in, io_uring included, and only for these calls. What they miss: a call that began before they were
 * attached.
 */
int on_accept_leave(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[FUNC_inet_csk_accept_NARGS];

	if (sk)
		flow_accepted(sk);
	return 0;
}

int on_accept_leave_kprobe(struct pt_regs *regs)
{
	struct sock *sk = (struct sock *)PT_REGS_RC(regs);

	if (sk)
		flow_accepted(sk);
	return 0;
}

/* tcp_v4_connect and tcp_v6_connect (sk, address, length): all errors of the way out. */
int on_connect_leave(u64 *ctx)
{
	if ((int)ctx[3] < 0)
		flow_refused_locally((struct sock *)ctx[0], -(int)ctx[3]);
	return 0;
}

int on_connect_leave_v6(u64 *ctx)
{
	if ((int)ctx[3] < 0)
		flow_refused_locally((struct sock *)ctx[0], -(int)ctx[3]);
	return 0;
}

int on_connect_enter_kprobe(struct pt_regs *regs)
{
	struct message_call call = {.sk = (struct sock *)PT_REGS_PARM1(regs)};
	u64 thread = bpf_get_current_pid_tgid();

	calls.update(&thread, &call);
	return 0;
}

int on_connect_leave_kprobe(struct pt_regs *regs)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct message_call *call = calls.lookup(&thread);
	struct sock *sk;
	int result = PT_REGS_RC(regs);

	if (!call)
		return 0;
	sk = call->sk;
	calls.delete(&thread);
	if (result < 0)
		flow_refused_locally(sk, -result);
	return 0;
}
