"""The command line in a process of its own, without the second that its imports take.

This module, run as a program, imports what the command line needs and then forks a child for each
line on its standard input. Nothing that starts a thread or connects may be imported here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_IMPORTED = (
    "analysis.statistics.compare", "analysis.tables.table", "pandas", "runner.cli.main",
    "runner.commands.play", "runner.commands.results", "runner.driver.run",
    "runner.rehearsal.dialogues", "tarfile",
)  # fmt: skip
_LOOK_EVERY = 0.01


class Job(NamedTuple):
    """One command: its words, its whole environment, and the files for what it prints."""

    words: list[str]
    env: dict[str, str]
    stdout: str
    stderr: str
    seconds: float


class ForkServer:
    """Use it as a context."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> ForkServer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"],
            cwd=self._root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # it ends at the end of its input

    def run(
        self, words: list[str], env: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with `capture_output`. Raises TimeoutExpired."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with TemporaryDirectory() as folder:
            out, err = (Path(folder) / name for name in ("out", "err"))
            print(
                json.dumps(Job(words, env, str(out), str(err), seconds)),
                file=self._process.stdin,
                flush=True,
            )
            code = json.loads(self._process.stdout.readline())
            if code is None:
                raise subprocess.TimeoutExpired(words, seconds, out.read_text(), err.read_text())
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _child(job: Job) -> None:
    import __main__
    from runner import entry

    for path, descriptor in ((job.stdout, 1), (job.stderr, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(job.env)
    # As `python -m runner` has it: it stands in what is printed.
    __main__.__package__ = "runner"
    sys.orig_argv = [sys.executable, "-m", "runner", *job.words]
    sys.argv = [str(Path(entry.__file__).with_name("__main__.py")), *job.words]
    entry.main()


def _wait(child: int, seconds: float) -> int | None:
    """Its exit status; None if it had to be killed after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOK_EVERY)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _serve() -> None:
    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        job = Job(*json.loads(line))
        child = os.fork()
        if child == 0:
            _child(job)  # ends with SystemExit
            return
        print(json.dumps(_wait(child, job.seconds)), flush=True)


if __name__ == "__main__":
    _serve()
