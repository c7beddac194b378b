/* SPDX-License-Identifier: GPL-2.0 */
/* Appending: the captured prefix of a part grows by the bytes of a call. */
#ifndef OTEL_EBPF_APPEND_H
#define OTEL_EBPF_APPEND_H

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

#endif
