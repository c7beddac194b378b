/* SPDX-License-Identifier: GPL-2.0 */
/* Turns: where one begins, what it looks at when it ends, how it is handed over. */
#ifndef OTEL_EBPF_TURN_H
#define OTEL_EBPF_TURN_H

/* The socket's retransmits so far and its round-trip time, as the turn that ends now sees them. */
static __always_inline void socket_look(struct exchange *x, struct sock *sk, u32 typed)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct turn *t = &x->turn;
	u32 retransmits;

	if (typed)
		tp = (struct tcp_sock *)bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return;
	retransmits = tcp_total_retrans(tp, typed);
	t->srtt_us = tcp_srtt_us(tp, typed) >> 3;
	t->retransmits = retransmits - x->retransmits_before;
	x->retransmits_now = retransmits;
}

static __always_inline void turn_begin(struct exchange *x)
{
	struct turn *t = &x->turn;

	x->swept_bytes = 0;
	x->wide &= WIDE_FLOW;
	x->contended = 0;
	x->retransmits_before = x->retransmits_now;
	t->sequence++;
	t->flags = t->flags & TURN_JOINED;
	if (t->sequence == 1)
		t->flags |= TURN_FIRST;
	else
		t->handshake_ns = 0;
	if (x->wide)
		t->flags |= TURN_WIDE;
	t->request_position = x->request_position;
	t->response_position = x->response_position;
	t->request_captured = 0;
	t->response_captured = 0;
	t->request_bytes = 0;
	t->response_bytes = 0;
	t->request_first_ns = 0;
	t->request_last_ns = 0;
	t->response_first_ns = 0;
	t->response_last_ns = 0;
}

static __always_inline int turn_output(struct exchange *x)
{
	struct turn *t = &x->turn;
	u64 segments = x->unannounced;
	u64 size;

	if (x->contended) { /* mixed bytes are sent by nobody, the sweep included */
		t->flags |= TURN_REQUEST_GAP | TURN_RESPONSE_GAP;
		t->request_captured = 0;
		t->response_captured = 0;
	}
	FORGET();
	size = t->request_captured + t->response_captured;
	PIN(size);
	if (size > TURN_DATA_BYTES)
		size = TURN_DATA_BYTES;
	PIN(size);
	size += OFFSET(struct turn, data);
	x->unannounced = 0;
	return events.ringbuf_output(t, size, wake_flag(size + segments));
}

static __always_inline void turn_emit(struct exchange *x)
{
	count(COUNT_TURNS);
	if (turn_output(x))
		count(COUNT_TURNS_LOST);
}

/* The next message begins: hand over the turn so far, unless the sweep has told all of it already. */
static __always_inline void turn_end(struct exchange *x, struct sock *sk, u32 typed)
{
	struct turn *t = &x->turn;

	socket_look(x, sk, typed);
	if (x->phase == PHASE_IDLE || x->swept_bytes == t->request_bytes + t->response_bytes)
		return;
	turn_emit(x);
}

#endif
