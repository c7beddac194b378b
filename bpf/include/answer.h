/* SPDX-License-Identifier: GPL-2.0 */
/* What the first bytes of a response tell. */
#ifndef OTEL_EBPF_ANSWER_H
#define OTEL_EBPF_ANSWER_H

/* 101 to any request, or 2xx to CONNECT: behind this response the flow is a tunnel (RFC 9110, 9.3.6 and 15.2.2). */
static __always_inline int opens_tunnel(struct turn *t)
{
	u64 at = t->request_captured;
	u32 status;

	PIN(at);
	if (at > REQUEST_INLINE_BYTES || t->response_captured < 12)
		return 0;
	PIN(at);
	status = *(u32 *)(t->data + at + 8);
	if (status == WORD4(' ', '1', '0', '1'))
		return 1;
	return (u16)status == (' ' | '2' << 8) && *(u32 *)t->data == WORD4('C', 'O', 'N', 'N') && t->request_captured >= 4;
}

/* Did the first answer look like HTTP? 1 yes, 0 no, -1 too short to say. */
static __always_inline int answer_is_http(struct turn *t)
{
	u64 at = t->request_captured;
	u64 word;

	PIN(at);
	if (at > REQUEST_INLINE_BYTES || t->response_captured < 8)
		return -1;
	PIN(at);
	word = *(u64 *)(t->data + at);
	return status_start(word, 8);
}

#endif
