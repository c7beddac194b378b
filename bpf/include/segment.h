/* SPDX-License-Identifier: GPL-2.0 */
/* Segments: whole calls of a wide flow, when the turn has no room for their bytes. */
#ifndef OTEL_EBPF_SEGMENT_H
#define OTEL_EBPF_SEGMENT_H

/*
 * Steps of one call: each sends up to SEGMENT_DATA_BYTES of one piece. 18 cover the 64 KiB that programs commonly read into at once; what is beyond is a gap that user space sees by the positions.
 */
#define SEGMENT_STEPS 18

#define SEGMENT_SENT 0
#define SEGMENT_REFUSED 1
#define SEGMENT_FAULT 2

static __always_inline int segment_emit(struct turn *t, u32 direction, u64 position, u64 now, const void *from, u64 size)
{
	struct segment *s = events.ringbuf_reserve(sizeof(struct segment));

	if (!s)
		return SEGMENT_REFUSED;
	PIN(size);
	if (size > SEGMENT_DATA_BYTES)
		size = SEGMENT_DATA_BYTES;
	PIN(size);
	if (read_user(s->data, size, from)) {
		events.ringbuf_discard(s, BPF_RB_NO_WAKEUP);
		return SEGMENT_FAULT;
	}
	s->kind = RECORD_SEGMENT;
	s->sequence = t->sequence;
	s->flow_id = t->flow_id;
	s->position = position;
	s->time_ns = now;
	s->size = size;
	s->direction = direction;
	events.ringbuf_submit(s, BPF_RB_NO_WAKEUP);
	return SEGMENT_SENT;
}

/* One step: the next piece, or as much of it as a segment holds. 0: there is no more, or it could not be sent. */
static __always_inline int segment_step(struct exchange *x, u32 direction, u64 position, u64 now)
{
	volatile struct cursor *at = &x->at;
	u64 size;

	if (!cursor_fill(at, &x->payload))
		return 0;
	size = at->piece_left;
	PIN(size);
	if (size > SEGMENT_DATA_BYTES)
		size = SEGMENT_DATA_BYTES;
	if (!size)
		return 1;
	at->result = segment_emit(&x->turn, direction, position + at->done, now, (const void *)at->piece, size);
	if (at->result != SEGMENT_SENT)
		return 0;
	at->segments++;
	cursor_skip(at, size);
	return 1;
}

static __always_inline void segments_emit(struct exchange *x, u32 direction, u64 position, u64 now, u64 length)
{
	volatile struct cursor *at = &x->at;
	u32 i;

	cursor_begin(at, &x->payload, length);
#pragma clang loop unroll(disable)
	for (i = 0; i < SEGMENT_STEPS; i++) {
		if (!segment_step(x, direction, position, now))
			break;
	}
	count_more(COUNT_SEGMENTS, at->segments);
	x->unannounced += at->segments * sizeof(struct segment);
	if (at->result == SEGMENT_REFUSED) {
		count(COUNT_SEGMENTS);
		count(COUNT_SEGMENTS_LOST);
	}
	if (at->result == SEGMENT_FAULT)
		count(COUNT_READ_FAULTS);
}

#endif
