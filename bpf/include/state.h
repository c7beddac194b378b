/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel side keeps for itself: the values of its maps that never cross the border. */
#ifndef OTEL_EBPF_STATE_H
#define OTEL_EBPF_STATE_H

#define PHASE_IDLE 0
#define PHASE_REQUEST 1
#define PHASE_RESPONSE 2
#define PHASE_TUNNEL 3

/* wide: this flow pipelines, for good; or the head of this request is longer than its room, for this turn. */
#define WIDE_FLOW 1
#define WIDE_HEAD 2

#define RECEIVE 0
#define SEND 1

/* Where the bytes of a call lie in the process. Neither buffer nor vectors: they cannot be read. */
struct payload {
	const void *buffer;
	const struct iovec *vectors;
	u64 vector_count;
};

/* Vectors read at once: headers and body, as most programs write them. */
#define VECTOR_PAIR 2

/* A place in the payload of a call. */
struct cursor {
	struct iovec pair[VECTOR_PAIR];
	u64 piece;      /* user address */
	u64 piece_left; /* bytes of the piece */
	u64 call_left;  /* bytes of the call */
	u64 done;
	u32 next_vector;
	u32 segments; /* sent of this call */
	u32 result;   /* of the last one */
	u32 pad;
};

/*
 * A flow that speaks HTTP/1: the turn under way. slack lies behind turn.data so that the verifier, which bounds offset and length
 * apart, sees every append inside the value.
 */
struct exchange {
	u64 request_position; /* of the next byte */
	u64 response_position;
	u64 swept_bytes; /* request + response bytes of the turn when the sweep last reported it; 0: never */
	u64 unannounced; /* bytes of segments sent since the last turn: the turn announces them, see wake.h */
	u64 reads;
	u64 writes;
	u64 busy;               /* when the call that is in here came, 0: none is */
	struct payload payload; /* of the call under way; here and not on the stack, see payload.h */
	struct cursor at;
	u32 found;              /* by the search under way */
	u32 retransmits_before; /* the socket's total when the turn began */
	u32 retransmits_now;    /* and at the last look */
	u8 phase;
	u8 request_direction; /* RECEIVE or SEND */
	u8 confirmed;         /* an answer began with HTTP/ */
	u8 wide;
	u8 contended; /* two threads were in here at once: the bytes captured may be mixed */
	u8 reserved[7];
	struct turn turn;
	u8 slack[RESPONSE_INLINE_BYTES];
};

struct listen_key {
	u32 netns;
	u32 port;
};

struct synack_key {
	u8 remote_address[16];
	u32 netns;
	u16 local_port;
	u16 remote_port;
};

struct message_call {
	struct sock *sk;
	struct payload payload;
};

#endif
