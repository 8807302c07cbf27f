"""What an engine's processes print: kept off the screen, and searched when one of them fails."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import TextIO

from agents.core.errors import CrsweepError
from workers.backends.core.engines import EngineStopped
from workers.processes import logs

_TAIL = 20_000  # characters of the output that are searched for a cause
_CAUSE = re.compile(r"^.*?\b((?:\w+\.)*\w*(?:Error|Exception)\b: .*)$", re.M)
# The error that vLLM raises here only says that the cause is in another process.
_WRAPPERS = (
    "Engine core initialization failed",
    "EngineDeadError",
    "See root cause above",
    "See stack trace",
    "Worker failed with error",
)


def redirect(path: Path, *, keep_screen: bool = False) -> None:
    """Sends the output of this process and its children to `path`, where causes can be found.

    With `keep_screen`, what our own Python prints still goes to the screen, through new
    `sys.stdout` and `sys.stderr`.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if keep_screen:
        sys.stdout, sys.stderr = _kept(sys.stdout), _kept(sys.stderr)
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)


def _kept(stream: TextIO) -> TextIO:
    """A copy of this stream that stays valid when the descriptors 1 and 2 are replaced, also if
    they have been before."""
    return os.fdopen(
        os.dup(stream.fileno()), "w", buffering=1, encoding=stream.encoding, errors=stream.errors
    )


def log_vllm_to(path: Path) -> None:
    """Sends vLLM's log lines to `path`, for this process and those that it will start.

    vLLM sets up its logging when it is imported and again for each engine, so the stream is named
    in its environment. In its own processes the name means their standard error, which `redirect`
    has set.
    """
    logs.vllm_stream = path.open("a", encoding="utf-8")
    os.environ["VLLM_LOGGING_STREAM"] = f"ext://{logs.__name__}.vllm_stream"
    for handler in logging.getLogger("vllm").handlers:  # where it was imported before
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(logs.vllm_stream)


def cause_of(error: Exception, path: Path) -> str:
    """The root cause of `error` in one line, from the output in `path` if it is there."""
    said = error.message if isinstance(error, CrsweepError) else f"{type(error).__name__}: {error}"
    if isinstance(error, EngineStopped) or any(words in said for words in _WRAPPERS):
        tail = path.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        found = [m for m in _CAUSE.findall(tail) if not any(w in m for w in _WRAPPERS)]
        said = found[-1] if found else f"{said} ({path} has its output)"
    return " ".join(said.split())[:500]
