/* SPDX-License-Identifier: GPL-2.0 */
/* Totals of a flow: the socket's own, taken when somebody looks. */
#ifndef OTEL_EBPF_TOTALS_H
#define OTEL_EBPF_TOTALS_H

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

#endif
