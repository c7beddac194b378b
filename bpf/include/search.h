/* SPDX-License-Identifier: GPL-2.0 */
/* Searching the first requests of a flow for signs that more bytes are needed than a turn holds. */
#ifndef OTEL_EBPF_SEARCH_H
#define OTEL_EBPF_SEARCH_H

#define END_OF_HEAD 0x0a0d0a0dU        /* CR LF CR LF */
#define VERSION_OF_REQUEST 0x2e312f50U /* "P/1.", as it stands in every request line and hardly anywhere else */

/* Clients that pipeline do so early: only the first turns of a flow are searched for a second request line. */
#define SEARCHED_TURNS 8

/* And only so far; a head that is longer and fills its room counts as one that does not end. */
#define SEARCHED_BYTES 512

/* 1 when the first four bytes of window are pattern, else 0: without a branch, for each would double what the verifier walks. */
static __always_inline u64 is_pattern(u64 window, u64 pattern)
{
	u64 difference = (window & 0xffffffff) ^ pattern;

	PIN(difference);
	return (difference - 1) >> 63;
}

/* How often pattern stands in the first captured bytes of the request. */
static __always_inline u32 occurrences(struct exchange *x, u64 pattern)
{
	volatile u32 *found = &x->found;
	struct turn *t = &x->turn;
	u32 end = t->request_captured;
	u64 sum = 0;
	u64 window;
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < SEARCHED_BYTES; i += 4) {
		if (i + 4 > end)
			break;
		window = *(u64 *)(t->data + i);
		sum += is_pattern(window, pattern) + is_pattern(window >> 8, pattern);
		sum += is_pattern(window >> 16, pattern) + is_pattern(window >> 24, pattern);
	}
	*found = sum;
	return *found;
}

/* A second request line, wherever it stands, or a head that does not end: then later bytes are needed, too. */
static __always_inline void request_search(struct exchange *x)
{
	struct turn *t = &x->turn;

	if (occurrences(x, VERSION_OF_REQUEST) > 1)
		x->wide |= WIDE_FLOW;
	else if (t->request_captured == REQUEST_INLINE_BYTES && !occurrences(x, END_OF_HEAD))
		x->wide |= WIDE_HEAD;
	if (x->wide)
		t->flags |= TURN_WIDE;
}

#endif
