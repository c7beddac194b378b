/* SPDX-License-Identifier: GPL-2.0 */
/* BCC includes this file first of all, and calls modprobe when it is missing. */
#ifndef OTEL_EBPF_STUB_KCONFIG_H
#define OTEL_EBPF_STUB_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1
#define CONFIG_ARCH_HAS_SYSCALL_WRAPPER 1

#endif
