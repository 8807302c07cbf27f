"""The exit codes of crsweep."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    COMPLETE = 0
    FAILED = 1
    """The system refused something (a full disk); of a run, all is committed by then."""
    BAD_INPUT = 2
    INCOMPLETE = 3
    """A run was ended or stopped before all was done; the same command resumes it."""
    INTERRUPTED = 130
    """By Ctrl-C, before there is anything to say; as in shells."""
