/* SPDX-License-Identifier: GPL-2.0 */
/* Searching the first requests of a flow for signs that more bytes are needed than a turn holds. */
#ifndef OTEL_EBPF_SEARCH_H
#define OTEL_EBPF_SEARCH_H

#define CRLF_CRLF 0x0a0d0a0dU

/* Clients that pipeline do so early: only the first turns of a flow are searched for a second head. */
#define SEARCHED_TURNS 8

/* And only so far; a head that is longer and fills its room counts as one that does not end. */
#define SEARCHED_BYTES 512

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

#endif
