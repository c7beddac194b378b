/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Connections: how flows begin and end.
 *
 * sock:inet_sock_set_state tells every change of a TCP state, in every kernel, with the socket; tcp:tcp_destroy_sock is the last
 * thing that happens to a socket. Both are tracepoints: no function names, no argument layouts.
 */
#define ETIMEDOUT 110

static __always_inline void flow_end(struct sock *sk, struct flow *flow, u64 now)
{
	u64 key = (u64)sk;

	flow_totals(flow, sk);
	exchange_close(sk, flow);
	flow->flags |= FLOW_ENDED;
	if (!flow->closed_ns)
		flow->closed_ns = now;
	flow_emit(flow);
	flows.delete(&key);
}

static __always_inline void on_connecting(struct sock *sk, u64 now)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow) /* the same socket tries again */
		flow_end(sk, flow, now);
	if ((bpf_get_current_pid_tgid() >> 32) == AGENT_TGID)
		return;
	flow = flow_new(sk, FLOW_CONNECTING, now);
	if (!flow)
		return;
	flow_role(flow, ROLE_CLIENT);
	edge_owner_current(&flow->edge);
}

static __always_inline void on_connected(struct sock *sk, u64 now)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (!flow)
		return;
	flow_name(flow, sk);
	flow_role(flow, ROLE_CLIENT);
	flow->flags &= ~FLOW_CONNECTING;
	flow->established_ns = now;
	flow->handshake_ns = now - flow->opened_ns;
}

/* When the first SYN-ACK was sent; that is when the SYN was seen, too. */
static __always_inline u64 first_synack(struct flow *flow)
{
	struct synack_key key = {};
	u64 *sent;

	__builtin_memcpy(key.remote_address, flow->edge.remote_address, sizeof(key.remote_address));
	key.netns = flow->edge.netns;
	key.local_port = flow->local_port;
	key.remote_port = flow->remote_port;
	sent = synacks.lookup(&key);
	return sent ? *sent : 0;
}

/*
 * The server's handshake: SYN-ACK to ACK. The kernel's first round-trip sample is just that, unless the SYN-ACK was sent again
 * (then no sample is taken, RFC 6298, 3): then the time comes from the retransmission hook, or stays unknown.
 */
static __always_inline void on_established_by_peer(struct sock *sk, u64 now)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);
	u64 began;

	if (!flow) /* else accept() was faster */
		flow = flow_new(sk, 0, now);
	if (!flow)
		return;
	flow_role(flow, ROLE_SERVER);
	flow->established_ns = now;
	flow->retransmits[RETRANSMIT_SYN_ACK] = KR(tp, total_retrans);
	if (flow->retransmits[RETRANSMIT_SYN_ACK]) {
		began = first_synack(flow);
		flow->handshake_ns = began ? now - began : 0;
	} else {
		flow->handshake_ns = (u64)(KR(tp, srtt_us) >> 3) * 1000;
	}
	flow->opened_ns = now - flow->handshake_ns;
}

static __always_inline void on_closed(struct sock *sk, u32 before, u64 now)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (!flow)
		return;
	flow_totals(flow, sk);
	flow->closed_ns = now;
	flow->error = KR(sk, sk_err);
	if (flow->error == ETIMEDOUT)
		flow->flags |= FLOW_TIMED_OUT;
	if (before == TCP_SYN_SENT)
		flow->flags |= FLOW_FAILED;
}

int on_state_change(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	u32 before = ctx[1];
	u32 after = ctx[2];
	struct listen_key key = {};
	u8 one = 1;
	u64 now;

	if (!is_tcp(sk))
		return 0;
	now = bpf_ktime_get_ns();
	if (after == TCP_SYN_SENT)
		on_connecting(sk, now);
	else if (after == TCP_ESTABLISHED && before == TCP_SYN_SENT)
		on_connected(sk, now);
	else if (after == TCP_ESTABLISHED && before == TCP_SYN_RECV)
		on_established_by_peer(sk, now);
	else if (after == TCP_CLOSE)
		on_closed(sk, before, now);
	else if (after == TCP_LISTEN) {
		key.netns = netns_of(sk);
		key.port = KR(sk, __sk_common.skc_num);
		listeners.update(&key, &one);
	}
	return 0;
}

int on_destroy(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow)
		flow_end(sk, flow, bpf_ktime_get_ns());
	return 0;
}
