"""The command line in a process of its own, without the second that its imports take.

This module, run as a program, imports what the command line needs and then forks a child for each
command that it is sent. Nothing that starts a thread or connects may be imported here.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

_IMPORTED = (
    "agents.react", "agents.zero_shot", "analysis.metrics.at_fail_plus_1", "analysis.metrics.sr",
    "analysis.statistics.compare", "analysis.tables.table", "pandas", "pyarrow.pandas_compat",
    "pydantic.type_adapter", "runner.cli.main", "runner.commands.compare",
    "runner.commands.doctor", "runner.commands.plan", "runner.commands.play",
    "runner.commands.prompts", "runner.commands.query", "runner.commands.results",
    "runner.commands.status", "runner.driver.run", "runner.rehearsal.dialogues",
    "simulators.domains.synthetic", "simulators.success.user_accepts",
    "simulators.users.target_item", "tarfile", "workers.backends.latency",
    "workers.backends.rules",
)  # fmt: skip
_LOOK_EVERY = 0.01
_FOREVER = 1e9


class Job(NamedTuple):
    """One command: its words, its whole environment, and the files for what it prints."""

    words: list[str]
    env: dict[str, str]
    stdout: str
    stderr: str
    cwd: str = ""


class Command:
    """A command that the server has started, with the methods of `subprocess.Popen`.

    With `one` text, stdout and stderr are printed into it as they come.
    """

    def __init__(
        self, server: ForkServer, words: list[str], env: dict[str, str], *, one: bool, cwd: str = ""
    ) -> None:
        self._server, self._words = server, words
        self._folder = TemporaryDirectory(prefix="crsweep-")  # goes with this object
        self._files = [Path(self._folder.name, name) for name in ("out", "err")[: 1 if one else 2]]
        for file in self._files:
            file.touch()
        self.pid: int = server.ask(Job(words, env, str(self._files[0]), str(self._files[-1]), cwd))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._end_within(0.0)

    def wait(self, timeout: float = _FOREVER) -> int:
        """Raises TimeoutExpired."""
        code = self._end_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self._words, timeout, *self._printed())
        return code

    def communicate(self, timeout: float = _FOREVER) -> tuple[str, str]:
        """What it printed, once it has ended."""
        self.wait(timeout)
        return self._printed()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end_within(self, seconds: float) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask(Wait(self.pid, seconds))
        return self.returncode

    def _printed(self) -> tuple[str, str]:
        out, *err = (file.read_text() for file in self._files)
        return out, "".join(err)


class Wait(NamedTuple):
    """A question to the server: the exit status of one command, None after so many seconds."""

    pid: int
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

    def start(self, words: list[str], env: dict[str, str]) -> Command:
        """The command line with these words; what it prints goes into one text."""
        return Command(self, words, env, one=True)

    def run(
        self, words: list[str], env: dict[str, str], seconds: float, cwd: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with `capture_output`. Raises TimeoutExpired."""
        command = Command(self, words, env, one=False, cwd=cwd)
        try:
            out, err = command.communicate(seconds)
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait()
            raise
        return subprocess.CompletedProcess(words, command.wait(), out, err)

    def ask(self, question: Job | Wait) -> Any:
        """What the server answers: the pid of a job, or what was waited for."""
        assert self._process.stdin is not None and self._process.stdout is not None
        sent = json.dumps([type(question).__name__, *question])
        print(sent, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def _child(job: Job) -> None:
    import __main__
    from runner import entry

    for path, descriptor in ((job.stdout, 1), (job.stderr, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(job.env)
    if job.cwd:
        os.chdir(job.cwd)
    added = job.env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [each for each in added if each and each not in sys.path]
    # As `python -m runner` has it: it is part of what is printed.
    __main__.__package__ = "runner"
    sys.orig_argv = [sys.executable, "-m", "runner", *job.words]
    sys.argv = [str(Path(entry.__file__).with_name("__main__.py")), *job.words]
    try:
        entry.main()
    except SystemExit as ended:
        _end(int(ended.code or 0))


def _end(code: int) -> None:
    """What Python does at its end, but for freeing each object: that took half of a command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    """Its exit status; None if it has not ended after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(_LOOK_EVERY)


def _serve() -> None:
    for name in _IMPORTED:
        import_module(name)
    gc.freeze()  # children must not copy what only the collector looks at
    for line in sys.stdin:
        kind, *question = json.loads(line)
        if kind == Wait.__name__:
            answer = _wait(*question)
        else:
            answer = os.fork()
            if answer == 0:
                _child(Job(*question))
                return
        print(json.dumps(answer), flush=True)
    gc.unfreeze()


if __name__ == "__main__":
    _serve()
