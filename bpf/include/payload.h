/* SPDX-License-Identifier: GPL-2.0 */
/* Payload: the bytes of one call, in the process's memory, as a run of pieces. */
#ifndef OTEL_EBPF_PAYLOAD_H
#define OTEL_EBPF_PAYLOAD_H

/* Calls that hand over more pieces than this are captured up to here: header lists of that many pieces were not seen in practice. */
#define MAX_PIECES 6

#define VECTORS_IN_KERNEL (USE_payload_fentry_pages || USE_payload_fentry || USE_payload_kprobe_pages || USE_payload_kprobe)

/*
 * Payload and cursor live in the exchange and are accessed as volatile: what is in registers and on the stack, the verifier tells
 * apart by value, and would walk every loop for every combination.
 */
/* The vectors themselves: in the process where system calls are watched, in the kernel where it has imported them already. */
static __always_inline int read_vectors(volatile void *to, u32 size, const struct iovec *from)
{
	if (VECTORS_IN_KERNEL)
		return bpf_probe_read_kernel((void *)to, size, from);
	return read_user((void *)to, size, from);
}

static __always_inline void cursor_begin(volatile struct cursor *at, volatile struct payload *p, u64 length)
{
	at->piece = (u64)p->buffer;
	at->piece_left = p->buffer ? length : 0;
	at->call_left = length;
	at->done = 0;
	at->next_vector = 0;
	at->segments = 0;
	at->result = 0;
	if (p->buffer || !p->vectors)
		return;
	if (read_vectors(at->pair, p->vector_count < VECTOR_PAIR ? sizeof(struct iovec) : sizeof(at->pair), p->vectors))
		at->call_left = 0;
}

/* Stand on a piece if there is another; 0 when there is none. An empty vector takes a step of its own: callers loop. */
static __always_inline int cursor_fill(volatile struct cursor *at, volatile struct payload *p)
{
	u64 index = at->next_vector;
	u64 left = at->call_left;
	volatile struct iovec *vector;
	u64 size;

	if (!left)
		return 0;
	if (at->piece_left)
		return 1;
	if (!p->vectors || index >= p->vector_count)
		return 0;
	if (index >= VECTOR_PAIR && read_vectors(at->pair, sizeof(struct iovec), p->vectors + index))
		return 0;
	at->next_vector = index + 1;
	if (index >= VECTOR_PAIR)
		index = 0;
	PIN(index);
	vector = &at->pair[index & (VECTOR_PAIR - 1)];
	size = vector->iov_len;
	at->piece = (u64)vector->iov_base;
	at->piece_left = size < left ? size : left;
	return 1;
}

static __always_inline void cursor_skip(volatile struct cursor *at, u64 bytes)
{
	at->piece += bytes;
	at->piece_left -= bytes;
	at->call_left -= bytes;
	at->done += bytes;
}

static __always_inline int readable(struct payload *p)
{
	return p->buffer || p->vectors;
}

/* The first piece with bytes, among the first two. */
static __always_inline const void *first_piece(struct payload *p, u64 length, u64 *size)
{
	struct iovec vector = {};

	*size = length;
	if (p->buffer || !p->vectors)
		return p->buffer;
	if (read_vectors(&vector, sizeof(vector), p->vectors))
		return 0;
	if (!vector.iov_len && p->vector_count > 1 && read_vectors(&vector, sizeof(vector), p->vectors + 1))
		return 0;
	if (vector.iov_len < length)
		*size = vector.iov_len;
	return vector.iov_base;
}

/* The first bytes of the call as one little-endian word, zeros behind them; how many there are in *size. */
static __always_inline u64 first_bytes(struct payload *p, u64 length, u64 *size)
{
	const void *piece = first_piece(p, length, size);
	u64 word = 0;
	u64 n = *size;

	*size = 0;
	PIN(n);
	if (n > 8)
		n = 8;
	PIN(n);
	if (!piece || !n || read_user(&word, n, piece))
		return 0;
	*size = n;
	return word;
}

#endif
