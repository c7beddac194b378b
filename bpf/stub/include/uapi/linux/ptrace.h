/* SPDX-License-Identifier: GPL-2.0 */
/* The registers of a kprobe or of a task in user space: fixed by each architecture's ABI. */
#ifndef OTEL_EBPF_STUB_PTRACE_H
#define OTEL_EBPF_STUB_PTRACE_H

#include <linux/types.h>

#if defined(__x86_64__)
/* arch/x86/include/asm/ptrace.h, x86-64 */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax;
	unsigned long ip, cs, flags, sp, ss;
};
#elif defined(__aarch64__)
/* arch/arm64/include/uapi/asm/ptrace.h: the part of pt_regs that is the same everywhere */
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
struct pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
	__u64 orig_x0;
	__s32 syscallno;
	__u32 unused;
};
#else
#error "otel-ebpf knows x86-64 and arm64"
#endif

#endif
