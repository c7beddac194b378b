/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Retransmits by type, and resets by direction: tracepoints tcp:tcp_retransmit_skb, tcp:tcp_retransmit_synack, tcp:tcp_send_reset,
 * tcp:tcp_receive_reset. They carry the socket, so that a timer's work is charged to the flow and not to a bystander.
 */
#define CONGESTION_RECOVERY 3 /* TCP_CA_Recovery */
#define CONGESTION_LOSS 4     /* TCP_CA_Loss */
#define PENDING_LOSS_PROBE 5  /* ICSK_TIME_LOSS_PROBE */

static __always_inline u32 retransmit_type(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)sk;
	u32 congestion = BF_inet_connection_sock__icsk_ca_state(icsk);

	if (KR(sk, __sk_common.skc_state) == TCP_SYN_SENT)
		return RETRANSMIT_SYN;
	if (congestion == CONGESTION_LOSS)
		return RETRANSMIT_TIMEOUT;
	if (congestion == CONGESTION_RECOVERY)
		return RETRANSMIT_FAST;
	if (KR(icsk, icsk_pending) == PENDING_LOSS_PROBE)
		return RETRANSMIT_TAIL_LOSS_PROBE;
	return RETRANSMIT_UNKNOWN;
}

/* Segments, not calls: the kernel's own total has grown by the segments of this buffer before the tracepoint fires. */
int on_retransmit(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);
	u32 type;
	u32 gained;

	if (!flow) {
		count(COUNT_RETRANSMITS_WITHOUT_FLOW);
		return 0;
	}
	type = retransmit_type(sk);
	gained = untyped_retransmits(flow, (struct tcp_sock *)sk);
	if (type < RETRANSMIT_TYPES)
		flow->retransmits[type] += gained;
	return 0;
}

/* The connection does not exist yet: remember when the handshake began. */
int on_retransmit_synack(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct request_sock *request = (struct request_sock *)ctx[1];
	struct tcp_request_sock *tcp_request = (struct tcp_request_sock *)request;
	struct synack_key key = {};
	u64 sent_ns = KR(tcp_request, snt_synack) * 1000;

	if (KR(request, __req_common.skc_family) == AF_INET6)
		bpf_probe_read_kernel(key.remote_address, 16, &request->__req_common.skc_v6_daddr);
	else
		bpf_probe_read_kernel(key.remote_address, 4, &request->__req_common.skc_daddr);
	key.netns = netns_of(sk);
	key.local_port = KR(request, __req_common.skc_num);
	key.remote_port = ntohs(KR(request, __req_common.skc_dport));
	if (sent_ns)
		synacks.update(&key, &sent_ns);
	return 0;
}

static __always_inline int on_reset(struct sock *sk, u32 flag)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow)
		flow->flags |= flag;
	else
		count(COUNT_RESETS_WITHOUT_FLOW);
	return 0;
}

int on_send_reset(u64 *ctx)
{
	return on_reset((struct sock *)ctx[0], FLOW_RESET_SENT);
}

int on_receive_reset(u64 *ctx)
{
	return on_reset((struct sock *)ctx[0], FLOW_RESET_RECEIVED);
}
