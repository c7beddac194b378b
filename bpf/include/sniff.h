/* SPDX-License-Identifier: GPL-2.0 */
/* What bytes look like: a guess by the first eight, nothing more. User space decides. */
#ifndef OTEL_EBPF_SNIFF_H
#define OTEL_EBPF_SNIFF_H

#define WORD4(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)
#define HTTP_SLASH 0x2f50545448ULL /* "HTTP/" */

/* A method of RFC 9110 or RFC 5789, by its first four bytes. */
static __always_inline int known_method(u64 word)
{
	switch ((u32)word) {
	case WORD4('G', 'E', 'T', ' '):
	case WORD4('P', 'O', 'S', 'T'):
	case WORD4('P', 'U', 'T', ' '):
	case WORD4('H', 'E', 'A', 'D'):
	case WORD4('D', 'E', 'L', 'E'):
	case WORD4('P', 'A', 'T', 'C'):
	case WORD4('O', 'P', 'T', 'I'):
	case WORD4('C', 'O', 'N', 'N'):
	case WORD4('T', 'R', 'A', 'C'):
		return 1;
	}
	return 0;
}

static __always_inline int upper(u64 word, u32 shift)
{
	return (u8)((u8)(word >> shift) - 'A') < 26;
}

/* Any method, also one nobody registered, also cut anywhere: up to three capital letters. */
static __always_inline int token_start(u64 word, u64 size)
{
	if (!size || !upper(word, 0))
		return 0;
	if (size > 1 && !upper(word, 8))
		return 0;
	return size < 3 || upper(word, 16);
}

/* "HTTP/", or the beginning of it when fewer bytes are there. */
static __always_inline int status_start(u64 word, u64 size)
{
	if (!size)
		return 0;
	if (size >= 5)
		return (word & 0xffffffffffULL) == HTTP_SLASH;
	return (word & ((1ULL << (size * 8)) - 1)) == (HTTP_SLASH & ((1ULL << (size * 8)) - 1));
}

/* RFC 9113, 3.4: the client's preface begins "PRI * HT". */
static __always_inline int looks_like_http2(u64 word)
{
	return (u32)word == WORD4('P', 'R', 'I', ' ') && (u32)(word >> 32) == WORD4('*', ' ', 'H', 'T');
}

/* RFC 8446, 5.1: content type 20..23, legacy version 3.x. */
static __always_inline int looks_like_tls(u64 word, u64 size)
{
	return size >= 2 && (u8)((u8)word - 20) < 4 && (u8)(word >> 8) == 3;
}

#endif
