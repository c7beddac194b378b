/* SPDX-License-Identifier: GPL-2.0 */
/* Reading memory: the kernel's by field, the process's by pointer. */
#ifndef OTEL_EBPF_READ_H
#define OTEL_EBPF_READ_H

/*
 * KR(p, f): the field f of *p, read so that every program type and every kernel allows it. Explicit, because the compiler front
 * end rewrites only some dereferences by itself.
 */
#define KR(p, f)                                                         \
	({                                                               \
		__typeof__((p)->f) _value;                               \
		bpf_probe_read_kernel(&_value, sizeof(_value), &(p)->f); \
		_value;                                                  \
	})

/*
 * LOAD(T, v, p, offset): one load instruction through a pointer whose type the verifier knows (context, BTF pointer): no helper
 * call. For the hot path only.
 */
#define LOAD(T, v, p, offset) asm volatile("%0 = *(" #T " *)(%1 + %2)" : "=r"(v) : "r"(p), "i"(offset))
#define OFFSET(type, field) __builtin_offsetof(type, field)

/* A length that the optimiser must not split into a checked and an unchecked copy. */
#define PIN(v) asm volatile("" : "+r"(v))

/*
 * What is in memory is read again behind this. The compiler would carry constants from one branch into the next, and the verifier
 * walk everything behind once for each of them.
 */
#define FORGET() asm volatile("" : : : "memory")

/* Called through a pointer: every textual call would make the compiler front end read /proc/kallsyms once more (0.1 s each). */
static int (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;

/*
 * Two fields of tcp_sock for the hot path. typed is a constant: the program has the socket from a typed tracepoint, and the verifier
 * lets it load; everybody else reads.
 */
static __always_inline u32 tcp_total_retrans(struct tcp_sock *tp, u32 typed)
{
	u32 value;

	if (!typed)
		return KR(tp, total_retrans);
	LOAD(u32, value, tp, OFFSET(struct tcp_sock, total_retrans));
	return value;
}

static __always_inline u32 tcp_srtt_us(struct tcp_sock *tp, u32 typed)
{
	u32 value;

	if (!typed)
		return KR(tp, srtt_us);
	LOAD(u32, value, tp, OFFSET(struct tcp_sock, srtt_us));
	return value;
}

#endif
