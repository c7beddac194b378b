/* SPDX-License-Identifier: GPL-2.0 */
/* How a flow becomes an HTTP/1 flow. */
#ifndef OTEL_EBPF_EXCHANGE_OPEN_H
#define OTEL_EBPF_EXCHANGE_OPEN_H

static __always_inline struct exchange *exchange_new(struct sock *sk, struct flow *flow)
{
	u64 key = (u64)sk;
	u32 zero = 0;
	struct exchange *template = zero_exchange.lookup(&zero);
	struct exchange *x;

	if (!template)
		return 0;
	flow->protocol = PROTOCOL_HTTP1; /* decided, also when there is no room: counted once */
	if (exchanges.update(&key, template)) {
		count(COUNT_EXCHANGE_MAP_FULL);
		return 0;
	}
	x = exchanges.lookup(&key);
	if (!x)
		return 0;
	x->request_direction = flow->edge.role == ROLE_SERVER ? RECEIVE : SEND;
	x->reads = flow->reads;
	x->writes = flow->writes;
	x->turn.kind = RECORD_TURN;
	x->turn.flow_id = flow->id;
	x->turn.edge = flow->edge;
	x->turn.local_port = flow->local_port;
	x->turn.remote_port = flow->remote_port;
	x->turn.handshake_ns = flow->edge.role == ROLE_CLIENT ? flow->handshake_ns : 0;
	if (flow->flags & FLOW_OLDER)
		x->turn.flags = TURN_JOINED;
	edge_owner_current(&x->turn.edge);
	return x;
}

/* Flows older than the agent are looked at this often, since the first call seen may stand inside a body. */
#define MAX_SNIFFS 64

/*
 * Does this call look like HTTP/1? The role of a flow older than the agent is a guess (its listener may be gone): a request settles it.
 */
static __always_inline int begins_http(struct flow *flow, u32 direction, u64 word, u64 size)
{
	u32 request_direction = flow->edge.role == ROLE_SERVER ? RECEIVE : SEND;
	int older = flow->flags & FLOW_OLDER;

	if (older && known_method(word)) {
		flow_role(flow, direction == RECEIVE ? ROLE_SERVER : ROLE_CLIENT);
		return 1;
	}
	if (direction != request_direction)
		return size >= 5 && status_start(word, size);
	return !older && token_start(word, size);
}

/* The protocol of a flow by this call; an exchange to capture into when it is HTTP/1. */
static __always_inline struct exchange *exchange_open(struct sock *sk, struct flow *flow, u32 direction, struct payload *p,
						      u64 length)
{
	u64 size;
	u64 word = first_bytes(p, length, &size);

	flow->sniffs++;
	if (looks_like_http2(word))
		flow->protocol = PROTOCOL_HTTP2;
	else if (looks_like_tls(word, size))
		flow->protocol = PROTOCOL_TLS;
	else if (begins_http(flow, direction, word, size))
		return exchange_new(sk, flow);
	else if (!(flow->flags & FLOW_OLDER))
		flow->protocol = PROTOCOL_OTHER;
	else if (flow->sniffs >= MAX_SNIFFS) {
		count(COUNT_PROTOCOL_GIVEN_UP);
		flow->protocol = PROTOCOL_OTHER;
	}
	return 0;
}

#endif
