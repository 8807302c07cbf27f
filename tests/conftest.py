"""Shared fixtures."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck

from tests.fork_server import Command, ForkServer
from tests.slow import LIST, function_of

ROOT = Path(__file__).parent.parent
Crsweep = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Command]

# Ray gives its workers what no other process wants, which is nothing while the tests are at work.
os.environ.setdefault("RAY_worker_niceness", "0")
# vLLM starts a process for each architecture of a model that it does not find described here.
_CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("VLLM_CACHE_ROOT", str(_CACHES / "vllm"))
# Matplotlib lists the fonts of the machine there, which takes seconds.
os.environ.setdefault("MPLCONFIGDIR", str(_CACHES / "matplotlib"))
_PROCESSES = {"crsweep", "start", "fork_server"}
_SLOW = frozenset(LIST.read_text().split())
_NUMBERS = itertools.count()
_WITH_ENGINES = {
    "tests/runner/vllm/": "runs with engines",
    "tests/runner/vllm/test_csi.py": "engines",
    "tests/runner/vllm/test_faults.py": "engines",
    "tests/runner/vllm/test_embeddings.py": "engines",
    "tests/workers/backends/vllm/serving/test_engine.py": "engines",
    "tests/workers/backends/sentence_transformers/test_engine.py": "engines",
}
"""Files, or folders of files, whose tests run one after the other: each engine takes gigabytes of
memory. Two such groups, of about the same length, may run at the same time."""

LAST_GUARD_SECONDS = 1800.0
"""When a test that waits for an event gives up: ten times what a slow and busy machine needs."""

# No test depends on the speed of the machine. Examples share the fixtures of their test on purpose.
# In CI (`--hypothesis-profile=ci`) the examples are the same each time, so that a commit cannot
# pass once and fail once; anywhere else they are new ones.
hypothesis.settings.register_profile(
    "crsweep",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("crsweep"), derandomize=True
)
hypothesis.settings.load_profile("crsweep")

# A shell that starts the tests in its background has them ignore Ctrl-C, and with them all runs
# that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file runs on one worker, since its tests share fixtures; so does each group of those with
    engines."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            paths = [path for path in _WITH_ENGINES if file.startswith(path)]
            return _WITH_ENGINES[max(paths, key=len)] if paths else file

    return Scheduling(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What runs the command line in a process of its own takes seconds, and so do those listed."""
    processes = isinstance(item, pytest.Function) and not _PROCESSES.isdisjoint(item.fixturenames)
    if processes or function_of(item.nodeid) in _SLOW:
        item.add_marker("slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first, then those with Ray, then those with vLLM.

    Several workers (`pytest -n 3 --dist loadfile`) start with the longest, and end at the same time
    since the quick ones are left.
    """
    items.sort(key=_weight, reverse="PYTEST_XDIST_WORKER" in os.environ)


def _weight(item: pytest.Item) -> list[bool]:
    return [item.get_closest_marker(name) is not None for name in ("vllm", "ray")]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Reports of hostile text pass between processes as UTF-8, which has no lone surrogates."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_sendable, value))
    return value


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the call cache of the person who runs it, nor that of another test.

    Two servers on different ports may have the same model, and then the same calls.
    """
    folder = tmp_path_factory.getbasetemp() / "caches" / str(next(_NUMBERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer(ROOT) as server:
        yield server


@pytest.fixture
def crsweep(fork_server: ForkServer) -> Crsweep:
    """Runs the real command line in a process of its own, with an environment of its own."""

    def call(
        *words: object, check: int | None = 0, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        given = [str(word) for word in words]
        whole = {**os.environ, "COLUMNS": "200", **env}
        if any(name.startswith("PYTHON") and name != "PYTHONPATH" for name in env):
            # Python reads them when it starts.
            done = subprocess.run(
                [sys.executable, "-m", "runner", *given],
                capture_output=True, text=True, cwd=cwd or ROOT, env=whole,
                timeout=LAST_GUARD_SECONDS,
            )  # fmt: skip
        else:
            done = fork_server.run(given, whole, LAST_GUARD_SECONDS, str(cwd or ""))
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture
def start(fork_server: ForkServer) -> Start:
    """Starts `crsweep run` and does not wait for its end."""

    def call(path: Path, *words: str) -> Command:
        return fork_server.start(["run", str(path), *words], dict(os.environ))

    return call
