"""Outcomes: what a passive parser may answer, a closed set.

In: nothing. Out: the types that every protocol package returns instead of raising. Bad input is never an exception; an
exception is a bug of ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The bytes so far begin a message and do not end it. Nothing was consumed: ask again when more have come."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Bytes that belong to no message, such as empty lines between messages. *size_bytes* of them were consumed."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Invalid:
    """The bytes do not begin a message of this protocol.

    Nothing was consumed: resynchronise. *reason* names why, for the ledger.
    """

    reason: str
