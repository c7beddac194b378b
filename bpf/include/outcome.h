/* SPDX-License-Identifier: GPL-2.0 */
/* What a process learns about its connection: accepted, or refused before any packet left. */
#ifndef OTEL_EBPF_OUTCOME_H
#define OTEL_EBPF_OUTCOME_H

#define ENETUNREACH 101
#define EHOSTUNREACH 113
#define EADDRNOTAVAIL 99
#define EACCES 13
#define EPERM 1

/*
 * accept() may take a connection from the queue before the state change that establishes it is told (the child is queued first), or
 * one that was queued before the agent came.
 */
static __always_inline struct flow *flow_of_accepted(struct sock *sk, u64 now)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow)
		return flow;
	flow = flow_new(sk, KR(sk, __sk_common.skc_state) == TCP_SYN_RECV ? 0 : FLOW_OLDER, now);
	if (flow)
		flow_role(flow, ROLE_SERVER);
	return flow;
}

static __always_inline void flow_accepted(struct sock *sk)
{
	u64 now = bpf_ktime_get_ns();
	struct flow *flow = flow_of_accepted(sk, now);

	if (!flow || flow->accepted_ns)
		return;
	flow->accepted_ns = now;
	edge_owner_current(&flow->edge);
}

/*
 * Errors of connect() for which no SYN was sent, so that no state change told of them. The socket lives on: the flow ends at once,
 * so that another connect() on it is another flow. The tuple is what the caller asked for as far as the socket knows it.
 */
static __always_inline int is_local_refusal(u32 error)
{
	return error == ENETUNREACH || error == EHOSTUNREACH || error == EADDRNOTAVAIL || error == EACCES || error == EPERM;
}

static __always_inline void flow_refused_locally(struct sock *sk, u32 error)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (!is_local_refusal(error) || !is_tcp(sk))
		return;
	if (flow) { /* SYN_SENT was reached: the state change knows the end, the call knows the reason */
		if (!flow->error)
			flow->error = error;
		return;
	}
	flow = flow_new(sk, FLOW_CONNECTING | FLOW_FAILED | FLOW_ENDED, bpf_ktime_get_ns());
	if (!flow)
		return;
	flow_role(flow, ROLE_CLIENT);
	edge_owner_current(&flow->edge);
	flow->error = error;
	flow->closed_ns = flow->opened_ns;
	flow_emit(flow);
	flows.delete(&key);
}

#endif
