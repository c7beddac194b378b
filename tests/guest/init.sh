#!/bin/sh
# First process of the guest: mounts what BPF needs, runs the payload, says how it ended, switches the machine off.
export PATH=/bin:/usr/bin HOME=/root PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tracefs tracing /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
. /payload/environment
echo "B> $(cut -d' ' -f1 /proc/uptime)"
/usr/bin/python3 /payload/main.py
echo "X> $?"
poweroff -f
