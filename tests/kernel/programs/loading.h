/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LOADING_H
#define LOADING_H

struct exec_event {
	u32 tgid;
	u32 pid;
	u32 leader_pid;
	char comm[16];
};

struct file_row {
	u32 tgid;
	u32 fd;
	u32 netns;
	u16 port;
	u16 family;
	u8 state;
	u8 congestion;
	u8 padding[2];
};

struct table_row {
	u64 value;
	u32 key;
	u32 padding;
};

#endif
