"""A sweep that is run once, for the tests that need one that has run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import LAST_GUARD_SECONDS
from tests.fork_server import ForkServer
from tests.sweep_files import write_sweep


class Ran(NamedTuple):
    """The sweep file of `tests.sweep_files`, its folder after a run, and what the run printed."""

    path: Path
    out: Path
    stdout: str


@pytest.fixture(scope="session")
def ran_once(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Not to be changed: for all tests of a session."""
    folder = tmp_path_factory.mktemp("ran")
    path = write_sweep(folder)
    env = {**os.environ, "COLUMNS": "200", "XDG_CACHE_HOME": str(folder / "cache")}
    done = fork_server.run(["run", str(path)], env, LAST_GUARD_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return Ran(path, folder / "out", done.stdout)


@pytest.fixture
def ran_in(ran_once: Ran) -> Callable[[Path], Ran]:
    """Copies that run into a folder, as if it had taken place there."""

    def copied(folder: Path) -> Ran:
        path, out = write_sweep(folder), folder / "out"
        shutil.copytree(ran_once.out, out)
        there, here = str(ran_once.path.parent), str(folder)
        manifest = out / "manifest.json"
        manifest.write_text(manifest.read_text().replace(there, here))
        return Ran(path, out, ran_once.stdout.replace(there, here))

    return copied


@pytest.fixture
def ran(tmp_path: Path, ran_in: Callable[[Path], Ran]) -> Ran:
    """A run in `tmp_path`."""
    return ran_in(tmp_path)
