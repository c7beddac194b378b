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
#include "include/wake.h"
#include "include/socket.h"
#include "include/flow.h"
#include "include/totals.h"
#include "include/payload.h"
#include "include/sniff.h"
#include "include/segment.h"
#include "include/turn.h"
#include "include/append.h"
#include "include/search.h"
#include "include/turn_bytes.h"
#include "include/answer.h"
#include "include/exchange.h"
#include "include/exchange_open.h"
#include "include/exchange_close.h"
#include "include/source.h"
#include "include/syscall.h"
#include "include/outcome.h"

#include "connections.c"
#include "retransmits.c"
/* The loader says which alternatives hold on this kernel (USE_<hook>_<alternative>): only their programs are compiled. */
#if USE_payload_tp_btf
#include "capture_socket.c"
#endif
#if USE_payload_fentry_pages || USE_payload_fentry || USE_payload_kprobe_pages || USE_payload_kprobe
#include "capture_message.c"
#endif
#if USE_payload_syscall
#include "capture_syscall.c"
#endif
#if USE_accept_fexit || USE_accept_kretprobe
#include "accept_function.c"
#endif
#if USE_accept_syscall
#include "accept_syscall.c"
#endif
#include "iterate.c"
