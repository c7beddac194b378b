"""The only package that knows BPF."""
