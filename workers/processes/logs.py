"""Logs: one file per process in the sweep's folder, so that the screen shows only progress."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TextIO

vllm_stream: TextIO | None = None
"""Where vLLM's log lines go in a process that runs its engines; None means standard error."""


class _LogFile(logging.FileHandler):
    """A log that drops lines on a full disk; the error that ends the run is on the screen."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to(folder: Path, name: str) -> None:
    """Sends all logging of this process to `<folder>/<name>.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(folder / f"{name}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
