/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets: which ones are ours, and what a flow takes its name and role from. */
#ifndef OTEL_EBPF_SOCKET_H
#define OTEL_EBPF_SOCKET_H

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

#endif
