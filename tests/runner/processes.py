"""Runs in processes of their own, and what they have started."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from tests.conftest import ROOT

T = TypeVar("T")


def start(path: Path, *words: str) -> subprocess.Popen[str]:
    """`crsweep run`; what it prints can be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "run", str(path), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip


def wait_for(
    condition: Callable[[], T], process: subprocess.Popen[str], what: str, seconds: float = 300
) -> T:
    """What `condition` gives, as soon as it is true; the run must go on until then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended = process.poll() is not None  # asked first: it may end while we look
        found = condition()
        if found:
            return found
        assert not ended, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for {what}")


def below(process: subprocess.Popen[str] | psutil.Process, words: str = "") -> list[psutil.Process]:
    """What a process has started, directly or not, with `words` in its command or name."""
    found = []
    with suppress(psutil.NoSuchProcess):  # it has ended, and so have they
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if words in " ".join(child.cmdline()) or words in child.name():
                    found.append(child)
    return found
