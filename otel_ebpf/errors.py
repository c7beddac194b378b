"""Errors that a person is meant to read: one clear sentence each, and the exit code that goes with it."""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """Base of every error that ends a command; its text is what the person sees."""

    exit_code: ClassVar[int] = 1


class CannotRun(AgentError):  # noqa: N818 - reads as what it says
    """This machine does not allow it: no privileges, no BTF, no usable hook."""


class SettingError(AgentError):
    """Settings that are not valid: one line per setting, each naming it and what is allowed."""

    exit_code: ClassVar[int] = 2


class RecordingError(AgentError):
    """A recording that cannot be read or written."""

    exit_code: ClassVar[int] = 2
