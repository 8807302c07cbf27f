"""What an engine's processes print: kept off the screen, and read when one of them fails."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from workers.backends.vllm.engine import Death

log_stream: TextIO | None = None
"""Where vLLM's own log lines go, found by its name; see `importing_vllm`."""

_STREAM = "VLLM_LOGGING_STREAM"
_TAIL = 20_000  # characters of the output that are searched for a cause
_CAUSE = re.compile(r"^.*?\b((?:\w+\.)*\w*(?:Error|Exception)\b: .*)$", re.M)
# What vLLM raises in our process says only that there was a cause in another.
_WRAPPERS = (
    "Engine core initialization failed",
    "EngineDeadError",
    "See root cause above",
    "See stack trace",
    "Worker failed with error",
)


def redirect(path: Path, *, keep_screen: bool = False) -> None:
    """Sends what this process and its children print to `path`, where causes can be read.

    With `keep_screen`, what our own Python prints still goes where it went.
    """
    if keep_screen:
        sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)


@contextmanager
def importing_vllm(path: Path) -> Iterator[None]:
    """While vLLM is imported, and after it: its log lines of this process go to `path`.

    It sets up its logging as it is imported, and later in each of its processes: those print to
    what `redirect` gave them, so the variable must not reach them.
    """
    global log_stream
    log_stream = path.open("a", encoding="utf-8")
    before = os.environ.get(_STREAM)
    os.environ[_STREAM] = f"ext://{__name__}.log_stream"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_STREAM]
        else:
            os.environ[_STREAM] = before
        for handler in logging.getLogger("vllm").handlers:  # where it was imported before
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(log_stream)


def cause_of(error: Exception, path: Path) -> str:
    """The root cause of `error` in one line, from the output in `path` if it is there."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, Death) or any(words in said for words in _WRAPPERS):
        tail = path.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        found = [m for m in _CAUSE.findall(tail) if not any(w in m for w in _WRAPPERS)]
        said = found[-1] if found else f"{said} ({path} has its output)"
    return " ".join(said.split())[:500]
