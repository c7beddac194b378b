/* SPDX-License-Identifier: GPL-2.0 */
/* The names that BCC's own headers and our programs take for granted. */
#ifndef OTEL_EBPF_STUB_TYPES_H
#define OTEL_EBPF_STUB_TYPES_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __u64 uint64_t;

typedef __u16 __le16;
typedef __u16 __be16;
typedef __u16 __sum16;
typedef __u32 __le32;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u64 __le64;
typedef __u64 __be64;

typedef unsigned long size_t;
typedef long ssize_t;
typedef unsigned long uintptr_t;
typedef long long loff_t;
typedef int pid_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;
typedef unsigned int dev_t;
typedef unsigned short umode_t;
typedef long long ktime_t;
typedef _Bool bool;

#define true 1
#define false 0
#ifndef NULL
#define NULL ((void *)0)
#endif

#define __bitwise
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define __always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

/* Functions and not macros: BCC's rewriter does not reach into the arguments of a macro. Both architectures are little-endian. */
static __always_inline __u16 ntohs(__u16 value)
{
	return __builtin_bswap16(value);
}

static __always_inline __u16 htons(__u16 value)
{
	return __builtin_bswap16(value);
}

static __always_inline __u32 ntohl(__u32 value)
{
	return __builtin_bswap32(value);
}

static __always_inline __u32 htonl(__u32 value)
{
	return __builtin_bswap32(value);
}

#endif
