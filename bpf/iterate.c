/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Iterators: what user space asks the kernel to walk, on a timer or once at the start.
 *
 * on_each_flow      rows of live flows, with totals as fresh as the call (map "flows")
 * on_each_exchange  the sweep: tails of turns that have gone quiet (map "exchanges")
 * on_each_listener  every listening TCP socket, whoever's namespace it is in
 * on_each_socket    every open TCP connection older than the agent becomes a flow; run after on_each_listener
 *
 * Why iterators: one system call walks everything without copying it out first, and sockets are found in all network namespaces
 * without entering any.
 */
#define SWEEP_IDLE_NS 250000000ULL

static __always_inline struct seq_file *sequence_of(struct bpf_iter_meta *meta)
{
	u64 seq;

	LOAD(u64, seq, meta, OFFSET(struct bpf_iter_meta, seq));
	return (struct seq_file *)seq;
}

/* The map may still name a socket whose memory another one has taken: then ports do not match any more. */
static __always_inline int still_names(struct flow *flow, struct sock *sk)
{
	u16 state = KR(sk, __sk_common.skc_state);

	if (flow->flags & FLOW_CONNECTING)
		return 1;
	if (state == TCP_CLOSE || flow->closed_ns)
		return flow->closed_ns != 0;
	return flow->local_port == KR(sk, __sk_common.skc_num) && flow->remote_port == ntohs(KR(sk, __sk_common.skc_dport));
}

int on_each_flow(u64 *ctx)
{
	u64 meta;
	u64 key;
	u64 value;
	u64 socket = 0;
	struct flow *flow;

	LOAD(u64, meta, ctx, OFFSET(struct bpf_iter__bpf_map_elem, meta));
	LOAD(u64, key, ctx, OFFSET(struct bpf_iter__bpf_map_elem, key));
	LOAD(u64, value, ctx, OFFSET(struct bpf_iter__bpf_map_elem, value));
	if (!key || !value)
		return 0;
	LOAD(u64, socket, key, 0);
	flow = flows.lookup(&socket);
	if (!flow || !still_names(flow, (struct sock *)socket))
		return 0;
	flow_totals(flow, (struct sock *)socket);
	bpf_seq_write(sequence_of((void *)meta), flow, sizeof(*flow));
	return 0;
}

int on_each_exchange(u64 *ctx)
{
	u64 key;
	u64 socket = 0;
	struct exchange *x;
	struct turn *t;
	u64 bytes;

	LOAD(u64, key, ctx, OFFSET(struct bpf_iter__bpf_map_elem, key));
	if (!key)
		return 0;
	LOAD(u64, socket, key, 0);
	x = exchanges.lookup(&socket);
	if (!x || x->phase != PHASE_RESPONSE)
		return 0;
	t = &x->turn;
	bytes = t->request_bytes + t->response_bytes;
	if (x->swept_bytes == bytes || bpf_ktime_get_ns() - t->response_last_ns < SWEEP_IDLE_NS)
		return 0;
	socket_look(x, (struct sock *)socket, 0);
	t->flags |= TURN_SNAPSHOT;
	count(COUNT_SNAPSHOTS);
	if (turn_output(x))
		count(COUNT_SNAPSHOTS_LOST);
	else
		x->swept_bytes = bytes;
	t->flags &= ~TURN_SNAPSHOT;
	return 0;
}

static __always_inline struct sock *socket_of_file(struct file *file)
{
	struct inode *inode = KR(file, f_inode);
	struct socket *socket;
	struct sock *sk;

	if ((KR(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = (struct socket *)KR(file, private_data);
	sk = socket ? KR(socket, sk) : 0;
	return sk && is_tcp(sk) ? sk : 0;
}

static __always_inline struct sock *iterated_socket(u64 *ctx)
{
	u64 task;
	u64 file;

	LOAD(u64, task, ctx, OFFSET(struct bpf_iter__task_file, task));
	LOAD(u64, file, ctx, OFFSET(struct bpf_iter__task_file, file));
	if (!task || !file)
		return 0;
	return socket_of_file((struct file *)file);
}

static __always_inline u32 iterated_tgid(u64 *ctx)
{
	u64 task;

	LOAD(u64, task, ctx, OFFSET(struct bpf_iter__task_file, task));
	return task ? KR((struct task_struct *)task, tgid) : 0;
}

int on_each_listener(u64 *ctx)
{
	struct sock *sk = iterated_socket(ctx);
	struct listener row = {.kind = RECORD_LISTENER};
	struct listen_key key = {};
	u64 meta;
	u8 one = 1;

	if (!sk || KR(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	LOAD(u64, meta, ctx, OFFSET(struct bpf_iter__task_file, meta));
	key.netns = row.netns = netns_of(sk);
	key.port = row.port = KR(sk, __sk_common.skc_num);
	row.tgid = iterated_tgid(ctx);
	if (KR(sk, __sk_common.skc_family) == AF_INET6) {
		row.family = 6;
		bpf_probe_read_kernel(row.address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	} else {
		row.family = 4;
		bpf_probe_read_kernel(row.address, 4, &sk->__sk_common.skc_rcv_saddr);
	}
	listeners.update(&key, &one);
	bpf_seq_write(sequence_of((void *)meta), &row, sizeof(row));
	return 0;
}

/* States in which bytes may still move. */
static __always_inline int is_open(u32 state)
{
	return state != TCP_CLOSE && state != TCP_LISTEN && state != TCP_SYN_SENT && state != TCP_SYN_RECV;
}

/* Bytes may have moved between attaching and this walk: then the flow is there, and its role was asked before listeners were known. */
static __always_inline int is_known(u64 key)
{
	struct flow *flow = flows.lookup(&key);

	if (flow && (flow->flags & FLOW_OLDER) && flow->protocol == PROTOCOL_UNDECIDED)
		flow_role_by_listener(flow);
	return flow != 0;
}

int on_each_socket(u64 *ctx)
{
	struct sock *sk = iterated_socket(ctx);
	struct flow *flow;
	u64 task;

	if (!sk || !is_open(KR(sk, __sk_common.skc_state)) || is_known((u64)sk))
		return 0;
	LOAD(u64, task, ctx, OFFSET(struct bpf_iter__task_file, task));
	if (!task || iterated_tgid(ctx) == AGENT_TGID)
		return 0;
	flow = flow_new(sk, FLOW_OLDER, bpf_ktime_get_ns());
	if (!flow) {
		count(COUNT_FLOW_MAP_FULL);
		return 0;
	}
	flow_role_by_listener(flow);
	edge_owner(&flow->edge, (struct task_struct *)task);
	return 0;
}
