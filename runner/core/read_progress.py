"""Shows the progress of reading large data files on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.status import Status

from simulators.domains.core.files import WATCHER

_QUIET = 2.0  # seconds that reading may take without a word
_EVERY = 10.0  # seconds between lines where there is no terminal


@contextmanager
def reading_shown() -> Iterator[None]:
    """Shows the lines and share read of files that take long, while the block runs.

    On a terminal, one line is rewritten; elsewhere, a line is printed every few seconds.
    """
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    last = began - _EVERY
    status = Status("", console=console)

    def watch(path: Path, lines: int, share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - began < _QUIET:
            return
        words = f"reading {path.name}: {lines:,} lines, {100 * share:.0f} %"
        if console.is_terminal:
            status.update(words)
            status.start()
        elif now - last >= _EVERY:
            last = now
            print(words, file=sys.stderr)

    token = WATCHER.set(watch)
    try:
        yield
    finally:
        WATCHER.reset(token)
        status.stop()
