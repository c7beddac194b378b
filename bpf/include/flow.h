/* SPDX-License-Identifier: GPL-2.0 */
/* Flows: one per socket, its identity, its totals, its end. */
#ifndef OTEL_EBPF_FLOW_H
#define OTEL_EBPF_FLOW_H

static __always_inline void edge_owner(struct edge_key *edge, struct task_struct *task)
{
	struct task_struct *leader = KR(task, group_leader);

	edge->tgid = KR(task, tgid);
	bpf_probe_read_kernel(edge->comm, sizeof(edge->comm), &leader->comm);
}

/* The owner is whoever calls now. Never from softirq: there the current task is a bystander. */
static __always_inline void edge_owner_current(struct edge_key *edge)
{
	edge_owner(edge, (struct task_struct *)bpf_get_current_task());
	edge->cgroup_id = bpf_get_current_cgroup_id();
}

static __always_inline u64 next_flow_id(void)
{
	u32 zero = 0;
	u64 *next = flow_ids.lookup(&zero);

	if (!next)
		return 0;
	*next += 1;
	return ((u64)bpf_get_smp_processor_id() << 48) | *next;
}

/*
 * A connection is counted as not tracked where it begins, and not again with every call on it: a flow that is made later (FLOW_OLDER)
 * stands for one that was counted then, or that discovery counts.
 */
static __always_inline struct flow *flow_new(struct sock *sk, u32 flags, u64 now)
{
	u64 key = (u64)sk;
	u32 zero = 0;
	struct flow *template = zero_flow.lookup(&zero);
	struct flow *flow;

	if (!template)
		return 0;
	if (flows.update(&key, template)) {
		if (!(flags & FLOW_OLDER))
			count(COUNT_FLOW_MAP_FULL);
		return 0;
	}
	flow = flows.lookup(&key);
	if (!flow)
		return 0;
	flow->kind = RECORD_FLOW;
	flow->id = next_flow_id();
	flow->flags = flags;
	flow->opened_ns = now;
	flow_name(flow, sk);
	return flow;
}

static __always_inline void flow_emit(struct flow *flow)
{
	count(COUNT_FLOWS);
	if (events.ringbuf_output(flow, sizeof(*flow), wake_flag(sizeof(*flow))))
		count(COUNT_FLOWS_LOST);
}

#endif
