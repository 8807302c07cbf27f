"""The exit codes of crsweep."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    COMPLETE = 0
    FAILED = 1
    """The system refused something (a full disk). For a run, everything is committed by then."""
    BAD_INPUT = 2
    INCOMPLETE = 3
    """A run ended before everything was done; the same command resumes it."""
    INTERRUPTED = 130
    """Ctrl-C before anything ran, as in shells."""
