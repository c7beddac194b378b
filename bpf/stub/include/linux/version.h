/* SPDX-License-Identifier: GPL-2.0 */
#ifndef OTEL_EBPF_STUB_VERSION_H
#define OTEL_EBPF_STUB_VERSION_H

#ifndef LINUX_VERSION_CODE
#error "LINUX_VERSION_CODE comes from the command line"
#endif
#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + ((patch) > 255 ? 255 : (patch)))

#endif
