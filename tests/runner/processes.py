"""Runs in processes of their own, and what they have started."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from tests.conftest import LAST_GUARD_SECONDS
from tests.fork_server import Command, ForkServer

T = TypeVar("T")
_PLAYERS = ("EpisodeWorker", "ModelReplica", "VLLM::")


def wait_for(condition: Callable[[], T], process: Command, what: str) -> T:
    """What `condition` gives, as soon as it is true; the run must not end before that."""
    until = time.monotonic() + LAST_GUARD_SECONDS
    while time.monotonic() < until:
        ended = process.poll() is not None  # asked first: it may end while we look
        found = condition()
        if found:
            return found
        assert not ended, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"waited {LAST_GUARD_SECONDS:g} s for {what}")


def end_of(process: Command) -> str:
    """What a run printed, once it has ended."""
    return process.communicate(timeout=LAST_GUARD_SECONDS)[0]


def run_for_several(server: ForkServer, path: Path) -> str:
    """Runs a sweep that several tests look at, with a call cache of its own; what it printed."""
    env = {**os.environ, "COLUMNS": "200", "XDG_CACHE_HOME": str(path.parent / "cache")}
    done = server.run(["run", str(path)], env, LAST_GUARD_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_run(there: Path, here: Path, out: str = "out") -> Path:
    """Copies the output folder `out` from `there`, as if the run had taken place `here`."""
    copy = Path(shutil.copytree(there / out, here / out))
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(there), str(here)))
    return copy


def kill(process: Command) -> None:
    """SIGKILL of a run; returns when all that played for it is gone too.

    Ray's own services, and actors that only answer, may take a minute.
    """
    started = [each for word in _PLAYERS for each in below(process, word)]
    process.kill()
    process.wait()
    assert_gone(started)


def assert_gone(processes: Iterable[psutil.Process]) -> None:
    """Waits for their end. A zombie, which nothing has reaped yet, has ended."""
    _, left = psutil.wait_procs(
        [each for each in processes if not is_gone(each)], timeout=LAST_GUARD_SECONDS
    )
    left = [each for each in left if not is_gone(each)]
    found = [(each.pid, each.name(), each.status()) for each in left]
    for each in left:
        each.kill()
    assert not found, f"left behind: {found}"


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def below(process: Command | psutil.Process, words: str = "") -> list[psutil.Process]:
    """What a process has started, directly or not, with `words` in its command or name."""
    found = []
    with suppress(psutil.NoSuchProcess):  # it has ended, and so have they
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if words in " ".join(child.cmdline()) or words in child.name():
                    found.append(child)
    return found
