/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border: what the kernel side hands to user space, and nothing else.
 *
 * Fixed-width types, natural alignment, padding written down. otel_ebpf/kernel/layout.py mirrors this file; tests/border compiles
 * it with cc and compares every size and offset. Constants flow one way: user space reads them from here.
 *
 * All times are nanoseconds of CLOCK_MONOTONIC (bpf_ktime_get_ns). Ports are in host order. Addresses are in network order;
 * an IPv4 address stands in the first four bytes, the rest is zero.
 */
#ifndef OTEL_EBPF_RECORDS_H
#define OTEL_EBPF_RECORDS_H

/* First word of every record in the ring. */
#define RECORD_TURN 1
#define RECORD_SEGMENT 2
#define RECORD_FLOW 3
/* Rows of the discovery iterator only: a listening socket. */
#define RECORD_LISTENER 4

#define ROLE_UNKNOWN 0
#define ROLE_CLIENT 1
#define ROLE_SERVER 2

/* What the first bytes of a flow looked like. */
#define PROTOCOL_UNDECIDED 0
#define PROTOCOL_HTTP1 1
#define PROTOCOL_HTTP2 2
#define PROTOCOL_TLS 3
#define PROTOCOL_OTHER 4

#define DIRECTION_REQUEST 0
#define DIRECTION_RESPONSE 1

/* Bytes kept inline of one turn: heads are rarely longer. */
#define REQUEST_INLINE_BYTES 1024
#define RESPONSE_INLINE_BYTES 1024
#define TURN_DATA_BYTES 2048
/* The last bytes of the response: they tell whether a chunked body has ended (RFC 9112, 7.1: the last chunk is "0\r\n\r\n"). */
#define TAIL_BYTES 8
#define SEGMENT_DATA_BYTES 4096

/* turn.flags */
#define TURN_SNAPSHOT 0x1          /* sent by the sweep while the turn may go on; the same sequence may come again, with more */
#define TURN_CLOSED 0x2            /* the socket was destroyed: no more bytes */
#define TURN_JOINED 0x4            /* the first bytes of this flow were never seen: the turn may begin inside a message */
#define TURN_WIDE 0x8              /* segment records carry the bytes beyond the inline ones */
#define TURN_REQUEST_GAP 0x10      /* request bytes that could not be read stand between the captured ones and later ones */
#define TURN_RESPONSE_GAP 0x20     /* the same of the response */
#define TURN_OPAQUE 0x40           /* after this turn the flow is a tunnel (101 or CONNECT): nothing after it is HTTP */
#define TURN_TAIL 0x80             /* turn.tail holds the response's last bytes */
#define TURN_RESET_RECEIVED 0x100  /* the peer reset the connection */
#define TURN_RESET_SENT 0x200      /* this end reset the connection */
#define TURN_TIMED_OUT 0x400       /* the kernel gave the connection up (ETIMEDOUT) */
#define TURN_FIRST 0x800           /* the first turn on this connection: handshake_ns belongs to it */

/* flow.flags */
#define FLOW_OLDER 0x1             /* was open before the agent attached */
#define FLOW_ENDED 0x2             /* last record of this flow */
#define FLOW_RESET_RECEIVED 0x4
#define FLOW_RESET_SENT 0x8
#define FLOW_TIMED_OUT 0x10
#define FLOW_CONNECTING 0x20       /* a client that has not been answered yet */
#define FLOW_FAILED 0x40           /* never established; flow.error says why (errno, 0 when the process gave up) */

/* flow.retransmits, by type; the order of ebpf.tcp.retransmit.type in telemetry/instruments.py */
#define RETRANSMIT_FAST 0
#define RETRANSMIT_TIMEOUT 1
#define RETRANSMIT_TAIL_LOSS_PROBE 2
#define RETRANSMIT_SYN 3
#define RETRANSMIT_SYN_ACK 4
#define RETRANSMIT_UNKNOWN 5
#define RETRANSMIT_TYPES 6

/*
 * Who talks to whom, without the client's port: user space uses these 72 bytes as they are, as the key of its aggregates.
 * comm is the name of the owner's thread group leader; server_port is 0 while the role is unknown.
 */
struct edge_key {
	char comm[16];
	__u64 cgroup_id;
	__u32 tgid;
	__u32 netns;
	__u8 local_address[16];
	__u8 remote_address[16];
	__u16 server_port;
	__u8 family; /* 4 or 6 */
	__u8 role;
	__u32 reserved;
};

/*
 * A request turn and the response turn that followed it: one record for the ordinary HTTP/1 exchange. Positions count the bytes
 * of one direction since the flow was first seen. data holds request_captured bytes of the request, then response_captured bytes
 * of the response; the record is cut behind them. Either part may be empty (bytes == 0): pipelined messages written one by one
 * arrive as turns of their own.
 */
struct turn {
	__u32 kind;
	__u32 sequence; /* number of the turn on its flow, from 1 */
	__u64 flow_id;
	struct edge_key edge;
	__u16 local_port;
	__u16 remote_port;
	__u16 request_captured;
	__u16 response_captured;
	__u64 request_position;
	__u64 response_position;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 request_first_ns;
	__u64 request_last_ns;
	__u64 response_first_ns;
	__u64 response_last_ns;
	__u64 handshake_ns; /* SYN to established, client side; 0 when unknown or not the first turn */
	__u32 flags;
	__u32 srtt_us;
	__u32 retransmits; /* segments sent again while the turn lasted */
	__u32 reserved;
	__u8 tail[TAIL_BYTES];
	__u8 data[TURN_DATA_BYTES];
};

/* Bytes of one call that the turn has no room for; sent before the turn they belong to. */
struct segment {
	__u32 kind;
	__u32 sequence; /* of the turn */
	__u64 flow_id;
	__u64 position; /* of data[0] in its direction */
	__u64 time_ns;
	__u32 size;     /* valid bytes of data */
	__u32 direction;
	__u8 data[SEGMENT_DATA_BYTES];
};

/*
 * One connection: the running totals of its life. Sent once at its end (ring), and read by the flow iterator while it lives.
 * A total is never reset: user space takes differences.
 */
struct flow {
	__u32 kind;
	__u32 flags;
	__u64 id;
	struct edge_key edge;
	__u16 local_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 state;      /* TCP state (include/net/tcp_states.h) */
	__u8 error;      /* errno the connection ended with */
	__u8 sniffs;     /* calls looked at while the protocol was undecided */
	__u64 opened_ns;      /* SYN sent or seen; first sight when older than the agent */
	__u64 established_ns; /* 0: not established, or older than the agent */
	__u64 handshake_ns;   /* 0: unknown */
	__u64 accepted_ns;    /* 0: not accepted yet, or unknown */
	__u64 closed_ns;      /* 0: still open */
	__u64 bytes_sent;     /* payload, each byte once (bytes_sent - bytes_retrans) */
	__u64 bytes_received;
	__u64 packets_sent;   /* segments on the wire, GSO counted as its segments */
	__u64 packets_received;
	__u64 reads;          /* socket calls that moved bytes */
	__u64 writes;
	__u32 srtt_us;        /* smoothed round-trip time, 0: none yet */
	__u32 retransmits[RETRANSMIT_TYPES];
	__u32 reserved;
};

struct listener {
	__u32 kind;
	__u32 netns;
	__u16 port;
	__u8 family;
	__u8 reserved;
	__u32 tgid;
	__u8 address[16];
};

/* Index into the map "fill". */
#define FILL_SENT 0
#define FILL_TAKEN 1

/* Per-CPU counters: what happened in the kernel that no record tells. Index into the map "counters". */
#define COUNT_TURNS 0                /* turn records emitted or tried; snapshots not counted */
#define COUNT_TURNS_LOST 1           /* of them, refused by a full ring */
#define COUNT_SNAPSHOTS 2
#define COUNT_SNAPSHOTS_LOST 3
#define COUNT_SEGMENTS 4
#define COUNT_SEGMENTS_LOST 5
#define COUNT_FLOWS 6                /* flow records */
#define COUNT_FLOWS_LOST 7
#define COUNT_FLOW_MAP_FULL 8        /* connections not tracked: map "flows" was full */
#define COUNT_EXCHANGE_MAP_FULL 9    /* HTTP flows not captured: map "exchanges" was full */
#define COUNT_READ_FAULTS 10         /* payload that could not be read from the process */
#define COUNT_PROTOCOL_GIVEN_UP 11   /* flows older than the agent in which no message start was found */
#define COUNT_RESETS_WITHOUT_FLOW 12
#define COUNT_RETRANSMITS_WITHOUT_FLOW 13
#define COUNT_UNREADABLE_CALLS 14    /* calls whose bytes are not in user memory (sendfile, io_uring, kernel buffers) */
#define COUNT_CONTENDED_CALLS 15     /* two threads moved bytes of one HTTP flow at one instant: the turn is sent without its bytes */
#define COUNT_MAX 16

#endif
