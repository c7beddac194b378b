/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The capture core, shared by all sources: turns of an HTTP/1 flow.
 *
 * A turn is a run of request calls and the run of response calls behind it. It ends when the next request begins, when a call
 * begins like a message inside a run (pipelining), or with the socket. Splitting too often is harmless: user space frames by
 * heads and positions. Times are those of the end of the call.
 */
#ifndef OTEL_EBPF_EXCHANGE_H
#define OTEL_EBPF_EXCHANGE_H

#define CRLF_CRLF 0x0a0d0a0dU

/* wide: this flow pipelines, for good; or the head of this request is longer than its room, for this turn. */
#define WIDE_FLOW 1
#define WIDE_HEAD 2

/* Clients that pipeline do so early: only the first turns of a flow are searched for a second head. */
#define SEARCHED_TURNS 8

/* And only so far; a head that is longer and fills its room counts as one that does not end. */
#define SEARCHED_BYTES 512

/* What is sent of a request whose head fills its room: the largest heads that servers commonly accept take 64 KiB. */
#define WIDE_HEAD_BYTES 65536

/* The socket's retransmits so far and its round-trip time, as the turn that ends now sees them. */
static __always_inline void socket_look(struct exchange *x, struct sock *sk, u32 typed)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct turn *t = &x->turn;
	u32 retransmits;

	if (typed)
		tp = (struct tcp_sock *)bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return;
	retransmits = tcp_total_retrans(tp, typed);
	t->srtt_us = tcp_srtt_us(tp, typed) >> 3;
	t->retransmits = retransmits - x->retransmits_before;
	x->retransmits_now = retransmits;
}

static __always_inline void turn_begin(struct exchange *x)
{
	struct turn *t = &x->turn;

	x->swept_bytes = 0;
	x->wide &= WIDE_FLOW;
	x->contended = 0;
	x->retransmits_before = x->retransmits_now;
	t->sequence++;
	t->flags = t->flags & TURN_JOINED;
	if (t->sequence == 1)
		t->flags |= TURN_FIRST;
	else
		t->handshake_ns = 0;
	if (x->wide)
		t->flags |= TURN_WIDE;
	t->request_position = x->request_position;
	t->response_position = x->response_position;
	t->request_captured = 0;
	t->response_captured = 0;
	t->request_bytes = 0;
	t->response_bytes = 0;
	t->request_first_ns = 0;
	t->request_last_ns = 0;
	t->response_first_ns = 0;
	t->response_last_ns = 0;
}

static __always_inline int turn_output(struct turn *t)
{
	u64 size = t->request_captured + t->response_captured;

	PIN(size);
	if (size > TURN_DATA_BYTES)
		size = TURN_DATA_BYTES;
	PIN(size);
	return events.ringbuf_output(t, OFFSET(struct turn, data) + size, BPF_RB_NO_WAKEUP);
}

static __always_inline void turn_emit(struct exchange *x)
{
	struct turn *t = &x->turn;

	if (x->contended) {
		t->flags |= TURN_REQUEST_GAP | TURN_RESPONSE_GAP;
		t->request_captured = 0;
		t->response_captured = 0;
	}
	count(COUNT_TURNS);
	if (turn_output(t))
		count(COUNT_TURNS_LOST);
}

/* The next message begins: hand over the turn so far, unless the sweep has told all of it already. */
static __always_inline void turn_end(struct exchange *x, struct sock *sk, u32 typed)
{
	struct turn *t = &x->turn;

	socket_look(x, sk, typed);
	if (x->phase == PHASE_IDLE || x->swept_bytes == t->request_bytes + t->response_bytes)
		return;
	turn_emit(x);
}

/* One buffer, the first call of its part: the ordinary case, without a loop. offset is 0 or behind the request's bytes. */
static __always_inline void append_first(struct exchange *x, u64 offset, u64 limit, u64 length)
{
	volatile struct payload *p = &x->payload;
	volatile struct cursor *at = &x->at;
	u64 n = length < limit ? length : limit;

	PIN(n);
	PIN(offset);
	if (n > REQUEST_INLINE_BYTES || offset > REQUEST_INLINE_BYTES)
		return;
	PIN(n);
	if (read_user(x->turn.data + offset, n, p->buffer))
		count(COUNT_READ_FAULTS);
	else
		at->done = n;
}

/* A step: the next piece behind those at data[offset], as far as room allows. 0: there is no more, or it cannot be read. */
static __always_inline int append_step(struct exchange *x, u64 offset, u64 room)
{
	volatile struct cursor *at = &x->at;
	u64 done = at->done;
	u64 place;
	u64 n;

	if (done >= room || !cursor_fill(at, &x->payload))
		return 0;
	n = room - done;
	if (at->piece_left < n)
		n = at->piece_left;
	place = offset + done;
	PIN(n);
	PIN(place);
	if (n > RESPONSE_INLINE_BYTES)
		n = RESPONSE_INLINE_BYTES;
	if (place >= TURN_DATA_BYTES)
		return 0;
	PIN(n);
	PIN(place);
	if (!n)
		return 1;
	at->result = read_user(x->turn.data + place, n, (const void *)at->piece) != 0;
	if (at->result)
		return 0;
	cursor_skip(at, n);
	return 1;
}

static __always_inline void append_pieces(struct exchange *x, u64 offset, u64 room, u64 length)
{
	volatile struct cursor *at = &x->at;
	u32 i;

	cursor_begin(at, &x->payload, length);
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_PIECES; i++) {
		if (!append_step(x, offset, room))
			break;
	}
	if (at->result)
		count(COUNT_READ_FAULTS);
}

/*
 * Copy the call's first bytes behind those at data[offset + captured], as far as limit allows; return how many. A part that cannot
 * be read ends the capture of its run: what is captured is always a prefix.
 */
static __always_inline u64 append(struct exchange *x, u64 offset, u64 limit, u64 captured, u64 length)
{
	volatile struct payload *p = &x->payload;
	volatile struct cursor *at = &x->at;

	at->done = 0;
	if (p->buffer && !captured)
		append_first(x, offset, limit, length);
	else
		append_pieces(x, offset + captured, limit - captured, length);
	return at->done;
}

/* Where the empty line begins that ends a head, among the first four of these eight bytes; 4: not there. */
static __always_inline u32 empty_line(u64 window)
{
	if ((u32)window == CRLF_CRLF)
		return 0;
	if ((u32)(window >> 8) == CRLF_CRLF)
		return 1;
	if ((u32)(window >> 16) == CRLF_CRLF)
		return 2;
	return (u32)(window >> 24) == CRLF_CRLF ? 3 : 4;
}

/* Where the first head of the captured request ends; 0: not in the captured bytes. */
static __always_inline u32 head_end(struct exchange *x)
{
	volatile u32 *found = &x->head_end;
	struct turn *t = &x->turn;
	u32 end = t->request_captured;
	u32 at;
	u32 i;

	*found = 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SEARCHED_BYTES; i += 4) {
		if (i + 4 > end)
			break;
		at = empty_line(*(u64 *)(t->data + i));
		if (at < 4) {
			if (i + at + 4 <= end)
				*found = i + at + 4;
			break;
		}
	}
	return *found;
}

/* A second request behind the first head, or a head that does not end: then later bytes are needed, too. */
static __always_inline void request_search(struct exchange *x)
{
	struct turn *t = &x->turn;
	u64 end = head_end(x);

	PIN(end);
	if (!end) {
		if (t->request_captured == REQUEST_INLINE_BYTES)
			x->wide |= WIDE_HEAD;
	} else if (end < REQUEST_INLINE_BYTES && end + 4 <= t->request_captured) {
		if (known_method(*(u32 *)(t->data + end)))
			x->wide |= WIDE_FLOW;
	}
	if (x->wide)
		t->flags |= TURN_WIDE;
}

/*
 * Keep the last eight bytes of a run of several calls; calls may be shorter than that. A response written by one call ends with that
 * call, so that the next request tells its end just as well, and the read is saved.
 */
static __always_inline void response_tail(struct exchange *x, u64 length)
{
	volatile struct payload *p = &x->payload;
	struct turn *t = &x->turn;
	const void *buffer = p->buffer;
	u64 *tail = (u64 *)t->tail;
	u64 word = 0;
	u64 n = length;

	if (!buffer) {
		t->flags &= ~TURN_TAIL;
		return;
	}
	if (length >= TAIL_BYTES) {
		if (!read_user(tail, TAIL_BYTES, buffer + length - TAIL_BYTES))
			t->flags |= TURN_TAIL;
		return;
	}
	PIN(n);
	n &= TAIL_BYTES - 1;
	PIN(n);
	if (!n || read_user(&word, n, buffer))
		return;
	*tail = (*tail >> (n * 8)) | (word << ((TAIL_BYTES - n) * 8));
}

static __always_inline void request_account(struct exchange *x, u64 copied, u64 length, u64 now)
{
	struct turn *t = &x->turn;
	int first = !t->request_bytes;

	if (first)
		t->request_first_ns = now;
	t->request_last_ns = now;
	t->request_bytes += length;
	x->request_position += length;
	if (!copied)
		return;
	t->request_captured += copied;
	if (t->request_captured == REQUEST_INLINE_BYTES || (first && t->sequence <= SEARCHED_TURNS))
		request_search(x);
}

static __always_inline void response_account(struct exchange *x, u64 copied, u64 length, u64 now)
{
	struct turn *t = &x->turn;

	if (!t->response_bytes)
		t->response_first_ns = now;
	t->response_last_ns = now;
	t->response_bytes += length;
	x->response_position += length;
	t->response_captured += copied;
}

static __always_inline int is_readable(struct exchange *x)
{
	volatile struct payload *p = &x->payload;

	return p->buffer || p->vectors;
}

/* The bytes of one call, of either part: inline while the prefix is unbroken, else as segments if this flow needs them. */
static __always_inline void turn_bytes(struct exchange *x, u32 part, u64 length, u64 now)
{
	struct turn *t = &x->turn;
	u64 request = part == DIRECTION_REQUEST;
	u64 captured = request ? t->request_captured : t->response_captured;
	u64 bytes = request ? t->request_bytes : t->response_bytes;
	u64 limit = request ? REQUEST_INLINE_BYTES : RESPONSE_INLINE_BYTES;
	u64 position = request ? x->request_position : x->response_position;
	u64 copied = 0;

	if (captured == bytes && captured < limit && is_readable(x))
		copied = append(x, request ? 0 : t->request_captured, limit, captured, length);
	FORGET();
	if (request)
		request_account(x, copied, length, now);
	else
		response_account(x, copied, length, now);
	FORGET();
	if (copied >= length)
		return;
	if (!is_readable(x))
		t->flags |= request ? TURN_REQUEST_GAP : TURN_RESPONSE_GAP;
	else if ((x->wide & WIDE_FLOW) || (request && x->wide && t->request_bytes <= WIDE_HEAD_BYTES + length))
		segments_emit(x, part, position, now, length);
	if (!request && bytes)
		response_tail(x, length);
}

/* 101 to any request, or 2xx to CONNECT: behind this response the flow is a tunnel (RFC 9110, 9.3.6 and 15.2.2). */
static __always_inline int opens_tunnel(struct turn *t)
{
	u64 at = t->request_captured;
	u32 status;

	PIN(at);
	if (at > REQUEST_INLINE_BYTES || t->response_captured < 12)
		return 0;
	PIN(at);
	status = *(u32 *)(t->data + at + 8);
	if (status == WORD4(' ', '1', '0', '1'))
		return 1;
	return (u16)status == (' ' | '2' << 8) && *(u32 *)t->data == WORD4('C', 'O', 'N', 'N') && t->request_captured >= 4;
}

/* Did the first answer look like HTTP? 1 yes, 0 no, -1 too short to say. */
static __always_inline int answer_is_http(struct turn *t)
{
	u64 at = t->request_captured;
	u64 word;

	PIN(at);
	if (at > REQUEST_INLINE_BYTES || t->response_captured < 8)
		return -1;
	PIN(at);
	word = *(u64 *)(t->data + at);
	return status_start(word, 8);
}

static __always_inline struct exchange *exchange_new(struct sock *sk, struct flow *flow)
{
	u64 key = (u64)sk;
	u32 zero = 0;
	struct exchange *template = zero_exchange.lookup(&zero);
	struct exchange *x;

	if (!template)
		return 0;
	if (exchanges.update(&key, template)) {
		count(COUNT_EXCHANGE_MAP_FULL);
		flow->protocol = PROTOCOL_HTTP1;
		flow->sniffs = 255;
		return 0;
	}
	x = exchanges.lookup(&key);
	if (!x)
		return 0;
	flow->protocol = PROTOCOL_HTTP1;
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

/* The protocol of a flow by this call; an exchange to capture into when it is HTTP/1. */
static __always_inline struct exchange *exchange_open(struct sock *sk, struct flow *flow, u32 direction, struct payload *p, u64 length)
{
	u32 request_direction = flow->edge.role == ROLE_SERVER ? RECEIVE : SEND;
	int older = flow->flags & FLOW_OLDER;
	u64 size;
	u64 word = first_bytes(p, length, &size);
	int http;

	flow->sniffs++;
	if (looks_like_http2(word)) {
		flow->protocol = PROTOCOL_HTTP2;
		return 0;
	}
	if (looks_like_tls(word, size)) {
		flow->protocol = PROTOCOL_TLS;
		return 0;
	}
	if (direction != request_direction)
		http = size >= 5 && status_start(word, size);
	else
		http = older ? known_method(word) : token_start(word, size);
	if (http)
		return exchange_new(sk, flow);
	if (older && flow->sniffs < MAX_SNIFFS)
		return 0;
	if (older)
		count(COUNT_PROTOCOL_GIVEN_UP);
	flow->protocol = PROTOCOL_OTHER;
	return 0;
}

/* The request of an unknown method was answered by something that is not HTTP: a guess that was wrong. */
static __always_inline void exchange_drop(struct exchange *x, struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *flow = flows.lookup(&key);

	if (flow)
		flow->protocol = PROTOCOL_OTHER;
	x->phase = PHASE_TUNNEL;
}

/* Does this call begin a new turn? Inside a run only when it begins like a message. */
static __always_inline int begins_turn(struct exchange *x, u32 part, struct payload *p, u64 length)
{
	u64 size;
	u64 word;

	if (part == DIRECTION_REQUEST ? x->phase != PHASE_REQUEST : x->phase == PHASE_IDLE)
		return 1;
	if (part == DIRECTION_RESPONSE && x->phase == PHASE_REQUEST)
		return 0;
	word = first_bytes(p, length, &size);
	if (part == DIRECTION_RESPONSE)
		return size >= 5 && status_start(word, size);
	if (!known_method(word))
		return 0;
	x->wide |= WIDE_FLOW;
	return 1;
}

/* The first bytes of a response: confirm the guess that this flow is HTTP, and see tunnels open. */
static __always_inline void response_began(struct exchange *x, struct sock *sk)
{
	struct turn *t = &x->turn;
	int http;

	if (!x->confirmed) {
		http = answer_is_http(t);
		if (http > 0)
			x->confirmed = 1;
		if (!http && !known_method(*(u32 *)t->data)) {
			exchange_drop(x, sk);
			return;
		}
	}
	if (opens_tunnel(t)) {
		t->flags |= TURN_OPAQUE;
		socket_look(x, sk, 0);
		turn_emit(x);
		x->phase = PHASE_TUNNEL;
	}
}

/*
 * Threads may send and receive on one socket at one instant. That is rare, a lock is not to be had on every kernel, and mixed bytes
 * are worse than none: whoever finds another in here, or his own mark gone, says so.
 */
static __always_inline void enter(struct exchange *x, u64 mark)
{
	if (x->busy)
		x->contended = 1;
	x->busy = mark;
}

static __always_inline void leave(struct exchange *x, u64 mark)
{
	volatile u64 *busy = &x->busy;

	if (*busy != mark) {
		x->contended = 1;
		count(COUNT_CONTENDED_CALLS);
	}
	*busy = 0;
}

/* A call moved bytes on a flow that speaks HTTP/1. */
static __always_inline void exchange_bytes(struct exchange *x, struct sock *sk, u32 typed, u32 direction, struct payload *p, u64 length)
{
	u32 part = direction == x->request_direction ? DIRECTION_REQUEST : DIRECTION_RESPONSE;
	u64 now;

	if (x->phase == PHASE_TUNNEL)
		return;
	now = bpf_ktime_get_ns();
	enter(x, now);
	if (begins_turn(x, part, p, length)) {
		turn_end(x, sk, typed);
		FORGET();
		turn_begin(x);
	}
	x->phase = part == DIRECTION_REQUEST ? PHASE_REQUEST : PHASE_RESPONSE;
	x->payload = *p;
	FORGET();
	turn_bytes(x, part, length, now);
	if (part == DIRECTION_RESPONSE && (!x->confirmed || x->turn.response_bytes == length))
		response_began(x, sk);
	leave(x, now);
}

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
