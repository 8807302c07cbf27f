"""The command that was typed, for messages that say what to type next."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.core.sent import sent_package

_LOGIN = re.compile(r"://[^/\s]*@")


def program() -> str:
    """How crsweep was started: its script, or an interpreter with `-m runner`."""
    if Path(sys.argv[0]).name == "crsweep":
        return shlex.quote(sys.argv[0])
    return shlex.join(sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1])


def command(more: Sequence[str] = (), *, retries: bool = True) -> str:
    """The given command, to be typed again; without its `--retry` options if `retries` is false.

    `more` are overrides that replace earlier ones for the same paths.
    """
    paths = tuple(f"{word.partition('=')[0]}=" for word in more)
    if (sent := sent_package()) is not None:  # this is the driver of a job
        typed = shlex.split(sent.command)
        start, given = typed[0], typed[1:] if retries else [*_without_retries(typed[1:])]
        return shlex.join([start, *(w for w in given if not w.startswith(paths)), *more])
    words = sys.argv[1:] if retries else _without_retries(sys.argv[1:])
    return f"{program()} {shlex.join([*(w for w in words if not w.startswith(paths)), *more])}"


def for_a_file(command: str) -> str:
    """`command` without user names and passwords in addresses, because secrets must never reach
    files."""
    return _LOGIN.sub("://***@", command)


def _without_retries(words: Sequence[str]) -> Iterator[str]:
    left = iter(words)
    for word in left:
        if word == "--retry":
            next(left, None)
        elif not word.startswith("--retry="):
            yield word
