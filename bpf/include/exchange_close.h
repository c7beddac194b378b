/* SPDX-License-Identifier: GPL-2.0 */
/* How its last turn is handed over. */
#ifndef OTEL_EBPF_EXCHANGE_CLOSE_H
#define OTEL_EBPF_EXCHANGE_CLOSE_H

/* The socket goes: tell what is open. */
static __always_inline void exchange_close(struct sock *sk, struct flow *flow)
{
	u64 key = (u64)sk;
	struct exchange *x = exchanges.lookup(&key);
	struct turn *t;

	if (!x)
		return;
	t = &x->turn;
	if (x->phase == PHASE_REQUEST || x->phase == PHASE_RESPONSE) {
		t->flags |= TURN_CLOSED;
		if (flow->flags & FLOW_RESET_RECEIVED)
			t->flags |= TURN_RESET_RECEIVED;
		if (flow->flags & FLOW_RESET_SENT)
			t->flags |= TURN_RESET_SENT;
		if (flow->flags & FLOW_TIMED_OUT)
			t->flags |= TURN_TIMED_OUT;
		socket_look(x, sk, 0);
		turn_emit(x);
	}
	exchanges.delete(&key);
}

#endif
