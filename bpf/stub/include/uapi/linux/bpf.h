/* SPDX-License-Identifier: GPL-2.0 */
/* After a failed compilation BCC tries once more with the system's bpf.h: stop there, the first errors are the ones to read. */
#ifndef _UAPI__LINUX_BPF_H__
#error "see the errors above: BCC tried again with another bpf.h"
#endif
