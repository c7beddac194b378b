/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The capture core, shared by all sources: turns of an HTTP/1 flow.
 *
 * A turn is a run of request calls and the run of response calls behind it. It ends when the next request begins, when a call
 * begins like a message inside a run (pipelining), or with the socket. Splitting too often is harmless: user space frames by
 * heads and positions. Times are those of the end of the call.
 */
#ifndef OTEL_EBPF_EXCHANGE_H
#define OTEL_EBPF_EXCHANGE_H

/* The request of an unknown method was answered by something that is not HTTP: a guess that was wrong. */
static __always_inline void exchange_drop(struct exchange *x, struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow)
		flow->protocol = PROTOCOL_OTHER;
	x->phase = PHASE_TUNNEL;
}

/* Does this call begin a new turn? Inside a run only when it begins like a message. */
static __always_inline int begins_turn(struct exchange *x, u32 part, struct payload *p, u64 length)
{
	u64 size;
	u64 word;

	if (part == DIRECTION_REQUEST ? x->phase != PHASE_REQUEST : x->phase == PHASE_IDLE)
		return 1;
	if (part == DIRECTION_RESPONSE && x->phase == PHASE_REQUEST)
		return 0;
	word = first_bytes(p, length, &size);
	if (part == DIRECTION_RESPONSE)
		return size >= 5 && status_start(word, size);
	if (!known_method(word))
		return 0;
	x->wide |= WIDE_FLOW;
	return 1;
}

/* The first bytes of a response: confirm the guess that this flow is HTTP, and see tunnels open. */
static __always_inline void response_began(struct exchange *x, struct sock *sk)
{
	struct turn *t = &x->turn;
	int http;

	if (!x->confirmed) {
		http = answer_is_http(t);
		if (http > 0)
			x->confirmed = 1;
		if (!http && !known_method(*(u32 *)t->data)) {
			exchange_drop(x, sk);
			return;
		}
	}
	if (opens_tunnel(t)) {
		t->flags |= TURN_OPAQUE;
		socket_look(x, sk, 0);
		turn_emit(x);
		x->phase = PHASE_TUNNEL;
	}
}

/*
 * Threads may send and receive on one socket at one instant. That is rare, a lock is not to be had on every kernel, and mixed bytes
 * are worse than none: whoever finds another in here, or his own mark gone, says so.
 */
static __always_inline void enter(struct exchange *x, u64 mark)
{
	if (x->busy)
		x->contended = 1;
	x->busy = mark;
}

static __always_inline void leave(struct exchange *x, u64 mark)
{
	volatile u64 *busy = &x->busy;

	if (*busy != mark) {
		x->contended = 1;
		count(COUNT_CONTENDED_CALLS);
	}
	*busy = 0;
}

/* A call moved bytes on a flow that speaks HTTP/1. */
static __always_inline void exchange_bytes(struct exchange *x, struct sock *sk, u32 typed, u32 direction, struct payload *p,
					   u64 length)
{
	u32 part = direction == x->request_direction ? DIRECTION_REQUEST : DIRECTION_RESPONSE;
	u64 now;

	if (x->phase == PHASE_TUNNEL)
		return;
	now = bpf_ktime_get_ns();
	enter(x, now);
	if (begins_turn(x, part, p, length)) {
		turn_end(x, sk, typed);
		FORGET();
		turn_begin(x);
	}
	x->phase = part == DIRECTION_REQUEST ? PHASE_REQUEST : PHASE_RESPONSE;
	x->payload = *p;
	FORGET();
	turn_bytes(x, part, length, now);
	if (part == DIRECTION_RESPONSE && (!x->confirmed || x->turn.response_bytes == length))
		response_began(x, sk);
	leave(x, now);
}

#endif
