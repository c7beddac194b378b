/* SPDX-License-Identifier: GPL-2.0 */
/* Flows: one per socket, its identity, its totals, its end. */
#ifndef OTEL_EBPF_FLOW_H
#define OTEL_EBPF_FLOW_H

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define S_IFMT 0170000
#define S_IFSOCK 0140000

static __always_inline int is_tcp(struct sock *sk)
{
	u16 family = KR(sk, __sk_common.skc_family);

	if (family != AF_INET && family != AF_INET6)
		return 0;
	return KR(sk, sk_protocol) == IPPROTO_TCP;
}

static __always_inline u32 netns_of(struct sock *sk)
{
	struct net *net = KR(sk, __sk_common.skc_net.net);

	return net ? KR(net, ns.inum) : 0;
}

/* The tuple: again when the connection is established, because connect() picks the source port after SYN_SENT. */
static __always_inline void flow_name(struct flow *flow, struct sock *sk)
{
	struct edge_key *edge = &flow->edge;

	flow->local_port = KR(sk, __sk_common.skc_num);
	flow->remote_port = ntohs(KR(sk, __sk_common.skc_dport));
	if (KR(sk, __sk_common.skc_family) == AF_INET6) {
		edge->family = 6;
		bpf_probe_read_kernel(edge->local_address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(edge->remote_address, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		edge->family = 4;
		bpf_probe_read_kernel(edge->local_address, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_probe_read_kernel(edge->remote_address, 4, &sk->__sk_common.skc_daddr);
	}
	edge->netns = netns_of(sk);
}

static __always_inline void flow_role(struct flow *flow, u8 role)
{
	flow->edge.role = role;
	flow->edge.server_port = role == ROLE_SERVER ? flow->local_port : flow->remote_port;
}

/* A flow older than the agent serves if somebody listens on its port. */
static __always_inline void flow_role_by_listener(struct flow *flow)
{
	struct listen_key key = {.netns = flow->edge.netns, .port = flow->local_port};

	flow_role(flow, listeners.lookup(&key) ? ROLE_SERVER : ROLE_CLIENT);
}

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

static __always_inline struct flow *flow_new(struct sock *sk, u32 flags, u64 now)
{
	u64 key = (u64)sk;
	u32 zero = 0;
	struct flow *template = zero_flow.lookup(&zero);
	struct flow *flow;

	if (!template)
		return 0;
	if (flows.update(&key, template)) {
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

/* packets += what the kernel's 32-bit count has gained; it wraps, and tcp_disconnect() sets it to zero. */
static __always_inline void add_packets(u64 *total, u32 segments)
{
	s32 gained = segments - (u32)*total;

	if (gained > 0)
		*total += gained;
}

/* bytes_received counts the FIN as a byte (tcp_rcv_nxt_update); SOCK_DONE is set when one has come (tcp_fin). */
#define SOCK_DONE 1

static __always_inline u64 payload_received(struct sock *sk)
{
	u64 bytes = KR((struct tcp_sock *)sk, bytes_received);

	return bytes - (bytes && (KR(sk, __sk_common.skc_flags) >> SOCK_DONE & 1));
}

/* Retransmits the kernel has counted and no hook has told the type of. */
static __always_inline u32 untyped_retransmits(struct flow *flow, struct tcp_sock *tp)
{
	u32 *typed = flow->retransmits;
	u32 known = typed[0] + typed[1] + typed[2] + typed[3] + typed[4] + typed[5];
	s32 gained = KR(tp, total_retrans) - known;

	return gained > 0 ? gained : 0;
}

/*
 * The socket's own totals (tcp_sock): no hook on the packet path, and right for whatever way the bytes took. Final when the
 * connection is closed: tcp_disconnect() sets the socket's counts to zero behind that.
 */
static __always_inline void flow_totals(struct flow *flow, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	u64 key = (u64)sk;
	struct exchange *x = exchanges.lookup(&key);

	if (x) {
		flow->reads = x->reads;
		flow->writes = x->writes;
	}
	if (flow->closed_ns)
		return;
	flow->bytes_sent = KR(tp, bytes_sent) - KR(tp, bytes_retrans);
	flow->bytes_received = payload_received(sk);
	add_packets(&flow->packets_sent, KR(tp, segs_out));
	add_packets(&flow->packets_received, KR(tp, segs_in));
	flow->retransmits[RETRANSMIT_UNKNOWN] += untyped_retransmits(flow, tp);
	flow->srtt_us = KR(tp, srtt_us) >> 3;
	flow->state = KR(sk, __sk_common.skc_state);
}

static __always_inline void flow_emit(struct flow *flow)
{
	count(COUNT_FLOWS);
	if (events.ringbuf_output(flow, sizeof(*flow), BPF_RB_NO_WAKEUP))
		count(COUNT_FLOWS_LOST);
}

#endif
