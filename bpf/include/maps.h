/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every map: key, value, who writes, who reads, how long an entry lives, what happens when it is full.
 * Sizes come from the settings as -D flags.
 */
#ifndef OTEL_EBPF_MAPS_H
#define OTEL_EBPF_MAPS_H

#ifndef RING_PAGES
#define RING_PAGES 1024 /* 4 MiB */
#endif
#ifndef MAX_FLOWS
#define MAX_FLOWS 32768
#endif
#ifndef MAX_EXCHANGES
#define MAX_EXCHANGES 8192
#endif

/*
 * events: records of records.h. Writers: every program. Reader: the agent, on a timer; nobody is woken per record (a wake-up
 * costs more than the exchange). Full: the record is refused and COUNT_*_LOST grows.
 */
BPF_RINGBUF_OUTPUT(events, RING_PAGES);

/*
 * flows: socket address -> struct flow. Written by connections.c, drops and retransmit hooks and, at first sight, by the capture
 * sources; read by the flow iterator. Dies with the socket (tcp_destroy_sock). Full: COUNT_FLOW_MAP_FULL, the connection is not
 * tracked.
 */
BPF_F_TABLE("hash", u64, struct flow, flows, MAX_FLOWS, BPF_F_NO_PREALLOC);

/*
 * exchanges: socket address -> struct exchange, only of flows that speak HTTP. Written by the capture core and the sweep; read by
 * them. Dies with the socket. Full: COUNT_EXCHANGE_MAP_FULL, the flow's exchanges are not captured.
 */
BPF_F_TABLE("hash", u64, struct exchange, exchanges, MAX_EXCHANGES, BPF_F_NO_PREALLOC);

/* counters: COUNT_* -> total since the start, per CPU. Written by everybody, read by the agent. */
BPF_PERCPU_ARRAY(counters, u64, COUNT_MAX);

/*
 * fill: bytes sent into the ring so far, by every program; and how many of them the agent has taken, by the agent at each look. The
 * difference says when to wake it.
 */
BPF_ARRAY(fill, u64, 2);

/* flow_ids: how many flows this CPU has named. Written by flow_new(). */
BPF_PERCPU_ARRAY(flow_ids, u64, 1);

/* Templates of new map values, too large for the stack. Never written. */
BPF_ARRAY(zero_flow, struct flow, 1);
BPF_ARRAY(zero_exchange, struct exchange, 1);

/* listeners: (network namespace, port) that somebody listens on: tells the role of flows older than the agent. LRU: the oldest go. */
BPF_TABLE("lru_hash", struct listen_key, u8, listeners, 8192);

/*
 * synacks: connection asked for -> time of its first SYN-ACK in ns, only when that had to be sent again: the handshake then took
 * longer than the round trip the kernel measured. LRU: the oldest go, their handshake is unknown.
 */
BPF_TABLE("lru_hash", struct synack_key, u64, synacks, 4096);

/* calls: thread -> what its tcp_recvmsg or tcp_sendmsg was given. Entry to return of that call. LRU: threads die inside calls. */
BPF_TABLE("lru_hash", u64, struct message_call, calls, 8192);

#endif
