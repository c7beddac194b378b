/* SPDX-License-Identifier: GPL-2.0 */
/* System calls: their numbers, where their arguments are, and what a descriptor of the caller stands for. */
#ifndef OTEL_EBPF_SYSCALL_H
#define OTEL_EBPF_SYSCALL_H

#if defined(__x86_64__)
#define SYSCALL_NUMBER orig_ax
#define SYSCALL_ARGUMENT_1 di
#define SYSCALL_ARGUMENT_2 si
#define SYSCALL_ARGUMENT_3 dx
#define SYSCALL_ARGUMENT_4 r10
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDFILE 40
#define NR_CONNECT 42
#define NR_ACCEPT 43
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_SPLICE 275
#define NR_ACCEPT4 288
#else
#error "system call numbers of this architecture are not in the table"
#endif

struct user_message {
	void *name;
	s32 name_length;
	u32 pad;
	struct iovec *vectors;
	u64 vector_count;
};

/* argument is the second of the call; vectors the third, which only readv and writev have as their number. */
static __always_inline void payload_of_syscall(struct payload *p, u64 number, u64 argument, u64 vectors)
{
	struct user_message message = {};

	switch (number) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		p->buffer = (const void *)argument;
		break;
	case NR_READV:
	case NR_WRITEV:
		p->vectors = (const struct iovec *)argument;
		p->vector_count = vectors;
		break;
	case NR_SENDMSG:
	case NR_RECVMSG:
		if (read_user(&message, sizeof(message), (const void *)argument))
			break;
		p->vectors = message.vectors;
		p->vector_count = message.vector_count;
		break;
	}
}

/* The TCP socket behind a descriptor of the current process, or 0. */
static __always_inline struct sock *socket_of_descriptor(u64 descriptor)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct files_struct *files = KR(task, files);
	struct fdtable *table;
	struct socket *socket;
	struct inode *inode;
	struct file **slots;
	struct file *file = 0;
	struct sock *sk;

	if (!files)
		return 0;
	table = KR(files, fdt);
	if (descriptor >= KR(table, max_fds))
		return 0;
	slots = (struct file **)KR(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + descriptor);
	if (!file)
		return 0;
	inode = KR(file, f_inode);
	if ((KR(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = (struct socket *)KR(file, private_data);
	sk = socket ? KR(socket, sk) : 0;
	return sk && is_tcp(sk) ? sk : 0;
}

#endif
