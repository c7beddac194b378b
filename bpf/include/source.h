/* SPDX-License-Identifier: GPL-2.0 */
/* What every capture source does before it looks for the payload: find out whether anybody wants it. */
#ifndef OTEL_EBPF_SOURCE_H
#define OTEL_EBPF_SOURCE_H

struct target {
	struct exchange *exchange;
	struct flow *flow; /* only while the protocol is undecided */
};

static __always_inline int target_undecided(struct target *target, struct sock *sk, u32 direction)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (!flow) {
		if ((bpf_get_current_pid_tgid() >> 32) == AGENT_TGID)
			return 0;
		flow = flow_new(sk, FLOW_OLDER, bpf_ktime_get_ns());
		if (!flow)
			return 0;
		flow_role_by_listener(flow);
	}
	if (!flow->edge.tgid)
		edge_owner_current(&flow->edge);
	if (direction == SEND)
		flow->writes++;
	else
		flow->reads++;
	if (flow->protocol != PROTOCOL_UNDECIDED)
		return 0;
	target->flow = flow;
	return 1;
}

/* Is this call of interest? Counts it in any case. */
static __always_inline int target_find(struct target *target, struct sock *sk, u32 direction)
{
	u64 key = (u64)sk;
	struct exchange *x = exchanges.lookup(&key);

	target->exchange = x;
	target->flow = 0;
	if (!x)
		return target_undecided(target, sk, direction);
	if (direction == SEND)
		x->writes++;
	else
		x->reads++;
	return 1;
}

/* typed: see tcp_total_retrans(). */
static __always_inline void target_bytes(struct target *target, struct sock *sk, u32 typed, u32 direction, struct payload *p,
					 u64 length)
{
	struct exchange *x = target->exchange;

	if (!readable(p))
		count(COUNT_UNREADABLE_CALLS);
	if (!x)
		x = exchange_open(sk, target->flow, direction, p, length);
	if (x)
		exchange_bytes(x, sk, typed, direction, p, length);
}

#endif
