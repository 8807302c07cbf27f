"""Fixtures of the tests with real vLLM on the CPU."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import tiny_models
from tests.runner.processes import kill
from workers.backends.vllm.serving.sockets import VARIABLE


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: str(tiny_models.make(folder, family)) for family in tiny_models.FAMILIES}


@pytest.fixture
def sockets(monkeypatch):
    """Where engines make their sockets."""
    with TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        monkeypatch.setenv(VARIABLE, folder)
        yield Path(folder)


@pytest.fixture
def start(start, monkeypatch):
    """Starts runs, and ends them with all that they started, whatever became of the test."""
    monkeypatch.setenv("COLUMNS", "200")
    started = []

    def call(path):
        started.append(start(path))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            kill(process)
