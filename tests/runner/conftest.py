"""A sweep that is run once, for the tests that need one that has run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fork_server import ForkServer
from tests.runner.processes import copy_run, run_for_several
from tests.sweep_files import write_sweep


class Ran(NamedTuple):
    """The sweep file of `tests.sweep_files`, its folder after a run, and what the run printed."""

    path: Path
    out: Path
    stdout: str


@pytest.fixture(scope="session")
def ran_once(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Not to be changed: for all tests of a session."""
    path = write_sweep(tmp_path_factory.mktemp("ran"))
    return Ran(path, path.parent / "out", run_for_several(fork_server, path))


@pytest.fixture
def ran(tmp_path: Path, ran_once: Ran) -> Ran:
    """A copy of it, as if it had taken place in `tmp_path`."""
    there = ran_once.path.parent
    said = ran_once.stdout.replace(str(there), str(tmp_path))
    return Ran(write_sweep(tmp_path), copy_run(there, tmp_path), said)
