"""Standard output that may be closed, full or narrow. Output errors must not end a run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console


class Screen:
    """Standard output that remembers a write error and discards everything after it.

    The stream is looked up for each text, because an engine in this process moves it when it starts
    (`redirect` in `workers/engines/output.py`).
    """

    def __init__(self) -> None:
        self.failed: Exception | None = None

    @property
    def _stream(self) -> TextIO:
        return sys.stdout

    def write(self, text: str) -> int:
        if self.failed is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        if self.failed is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fail(self, error: Exception) -> None:
        self.failed = error
        silence(self._stream)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Prints `text` as it is: not as markup, and not wrapped."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def silence(stream: TextIO) -> None:
    """Discards what a stream still buffers; Python would complain about it at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def escape_unencodable() -> None:
    """Writes letters that the terminal's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def reason_of(error: BaseException) -> str:
    """The reason for a failure, in one line."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    first = str(error).strip().splitlines()
    return first[0] if first else type(error).__name__
