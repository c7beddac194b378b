"""Other kernels in QEMU: what must be true on a kernel that this machine does not run."""
