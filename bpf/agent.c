/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel side, as a table of contents. Struct slices of the running kernel and the HAVE_*, ARG_* and TP_* facts are prepended
 * by otel_ebpf/kernel/slices.py; everything here is read in this order and no other.
 */
#ifndef AGENT_TGID
#define AGENT_TGID 0xffffffff /* the agent's own connections are not watched */
#endif

#include "include/records.h"
#include "include/state.h"
#include "include/maps.h"
#include "include/read.h"
#include "include/count.h"
#include "include/payload.h"
#include "include/sniff.h"
#include "include/flow.h"
#include "include/segment.h"
#include "include/exchange.h"
#include "include/source.h"
#include "include/syscall.h"
#include "include/outcome.h"

#include "connections.c"
#include "retransmits.c"
#include "capture_socket.c"
/* The sources that a kernel with the socket tracepoints does not need, unless those were switched off or refused. */
#if ALL_SOURCES || !CAPTURES_BY_SOCKET
#include "capture_message.c"
#include "capture_syscall.c"
#endif
#include "accept_syscall.c"
#include "iterate.c"
