/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture source 2: tcp_sendmsg and tcp_recvmsg, by fentry/fexit or by kprobe/kretprobe (5.10+).
 *
 * Why these: present on every kernel under the same names, and they see msg->msg_iter, so io_uring payload is read as well. The
 * iterator moves while the call runs: what it pointed to is kept per thread between entry and return. tcp_sendpage carries
 * sendfile up to 6.4: its bytes are counted, not read. What they miss: kernel buffers (splice, TLS in the kernel).
 */
/* iov_iter says where user memory is; other kinds (pages, kernel vectors) cannot be read. */
static __always_inline void payload_of_iterator(struct payload *p, struct msghdr *message)
{
	struct iov_iter *iterator = &message->msg_iter;
	u64 kind = (u8)KR(iterator, iter_type);

#if HAVE_ENUM_ITER_UBUF
	if (kind == ITER_UBUF) {
		p->buffer = (const void *)KR(iterator, ubuf) + KR(iterator, iov_offset);
		return;
	}
#endif
#if !HAVE_iov_iter__data_source && LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
	kind &= ~1ULL; /* bit 0 carries the direction */
#endif
	if (kind != ITER_IOVEC)
		return;
	p->vectors = KR(iterator, __iov);
	p->vector_count = KR(iterator, nr_segs);
}

static __always_inline int message_enter(struct sock *sk, struct msghdr *message)
{
	struct message_call call = {.sk = sk};
	u64 thread = bpf_get_current_pid_tgid();

	payload_of_iterator(&call.payload, message);
	calls.update(&thread, &call);
	return 0;
}

static __always_inline int message_leave(s64 length, u32 direction)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct message_call *kept = calls.lookup(&thread);
	struct message_call call;
	struct target target;

	if (!kept)
		return 0;
	call = *kept;
	calls.delete(&thread);
	if (length <= 0 || !is_tcp(call.sk))
		return 0;
	if (!target_find(&target, call.sk, direction))
		return 0;
	target_bytes(&target, call.sk, 0, direction, &call.payload, length);
	return 0;
}

#define MESSAGE_PEEK 2

int on_send_enter(u64 *ctx)
{
	return message_enter((struct sock *)ctx[0], (struct msghdr *)ctx[1]);
}

int on_send_leave(u64 *ctx)
{
	return message_leave((int)ctx[3], SEND);
}

int on_receive_enter(u64 *ctx)
{
	if ((int)ctx[ARG_tcp_recvmsg__flags] & MESSAGE_PEEK)
		return 0;
	return message_enter((struct sock *)ctx[0], (struct msghdr *)ctx[1]);
}

/* The return value stands behind the arguments, whose number differs between kernels. */
int on_receive_leave(u64 *ctx)
{
	return message_leave((int)ctx[FUNC_tcp_recvmsg_NARGS], RECEIVE);
}

int on_send_enter_kprobe(struct pt_regs *regs)
{
	return message_enter((struct sock *)PT_REGS_PARM1(regs), (struct msghdr *)PT_REGS_PARM2(regs));
}

int on_send_leave_kprobe(struct pt_regs *regs)
{
	return message_leave((int)PT_REGS_RC(regs), SEND);
}

static __always_inline u64 receive_flags(struct pt_regs *regs)
{
#if ARG_tcp_recvmsg__flags == 4
	return PT_REGS_PARM5(regs);
#else
	return PT_REGS_PARM4(regs);
#endif
}

int on_receive_enter_kprobe(struct pt_regs *regs)
{
	if ((int)receive_flags(regs) & MESSAGE_PEEK)
		return 0;
	return message_enter((struct sock *)PT_REGS_PARM1(regs), (struct msghdr *)PT_REGS_PARM2(regs));
}

int on_receive_leave_kprobe(struct pt_regs *regs)
{
	return message_leave((int)PT_REGS_RC(regs), RECEIVE);
}

#if HAVE_FUNC_tcp_sendpage

static __always_inline int page_leave(struct sock *sk, s64 length)
{
	struct payload none = {};
	struct target target;

	if (length <= 0 || !target_find(&target, sk, SEND))
		return 0;
	target_bytes(&target, sk, 0, SEND, &none, length);
	return 0;
}

int on_sendpage_leave(u64 *ctx)
{
	return page_leave((struct sock *)ctx[0], (int)ctx[5]);
}

int on_sendpage_enter_kprobe(struct pt_regs *regs)
{
	struct message_call call = {.sk = (struct sock *)PT_REGS_PARM1(regs)};
	u64 thread = bpf_get_current_pid_tgid();

	calls.update(&thread, &call);
	return 0;
}

int on_sendpage_leave_kprobe(struct pt_regs *regs)
{
	return message_leave((int)PT_REGS_RC(regs), SEND);
}

#endif
