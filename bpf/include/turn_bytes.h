/* SPDX-License-Identifier: GPL-2.0 */
/* The bytes of one call, whichever part of the turn they belong to. */
#ifndef OTEL_EBPF_TURN_BYTES_H
#define OTEL_EBPF_TURN_BYTES_H

/* What is sent of a request whose head fills its room: the largest heads that servers commonly accept take 64 KiB. */
#define WIDE_HEAD_BYTES 65536

/* Keep the last eight bytes of the run; calls may be shorter than that. */
static __always_inline void response_tail(struct exchange *x, u64 length)
{
	volatile struct payload *p = &x->payload;
	struct turn *t = &x->turn;
	const void *buffer = p->buffer;
	u64 *tail = (u64 *)t->tail;
	u64 word = 0;
	u64 n = length;

	if (length >= TAIL_BYTES) {
		t->flags |= TURN_TAIL;
		if (!buffer || read_user(tail, TAIL_BYTES, buffer + length - TAIL_BYTES))
			t->flags &= ~TURN_TAIL;
		return;
	}
	PIN(n);
	n &= TAIL_BYTES - 1;
	PIN(n);
	if (!n || !buffer || read_user(&word, n, buffer))
		t->flags &= ~TURN_TAIL;
	else
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
	if (!request)
		response_tail(x, length);
}

#endif
