"""Protocols: bytes and times in, exchanges out.

Sans-IO and passive: nothing here reads a clock, a socket or the kernel.
"""
