/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waking the reader. It looks on a timer, for a wake-up per record would cost more than the exchange. Only when the ring has filled
 * to a quarter is it woken, by the few records that cross that mark: a burst must not fill the rest before the next look.
 */
#ifndef OTEL_EBPF_WAKE_H
#define OTEL_EBPF_WAKE_H

#define RING_BYTES (RING_PAGES * 4096ULL)
#define WAKE_BYTES (RING_BYTES / 4)
/* Wide enough, at the usual size, that no record nor all segments of a call step over it; wake-ups behind the first are cheap against what they save. */
#define WAKE_WINDOW_BYTES (RING_BYTES / 16)

/*
 * The flag for a record of size bytes. Bytes are counted by ourselves: the front end has no way to ask the ring. Without a branch on
 * the numbers, since the verifier would walk everything behind once more for each.
 */
static __always_inline u64 wake_flag(u64 size)
{
	u32 sent_index = FILL_SENT;
	u32 taken_index = FILL_TAKEN;
	u64 *sent = fill.lookup(&sent_index);
	u64 *taken = fill.lookup(&taken_index);
	u64 above;

	if (!sent || !taken)
		return BPF_RB_NO_WAKEUP;
	__sync_fetch_and_add(sent, size);
	above = *sent - *taken - WAKE_BYTES;
	PIN(above);
	return BPF_RB_NO_WAKEUP << ((~above & (above - WAKE_WINDOW_BYTES)) >> 63); /* BPF_RB_FORCE_WAKEUP is twice that */
}

#endif
