/* SPDX-License-Identifier: GPL-2.0 */
/* Nothing fails silently: what no record can tell is counted here, and user space exports it. */
#ifndef OTEL_EBPF_COUNT_H
#define OTEL_EBPF_COUNT_H

static __always_inline void count_more(u32 what, u64 more)
{
	u64 *value = counters.lookup(&what);

	if (value)
		*value += more;
}

static __always_inline void count(u32 what)
{
	count_more(what, 1);
}

#endif
