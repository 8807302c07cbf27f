"""A sweep that was played once, and a copy of it for each test."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from runner.driver.run import run
from tests.runner.annotation.forms import SWEEP
from tests.sweep_files import write_sweep


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("played")
    console = Console(file=io.StringIO())
    result = run(write_sweep(folder, **SWEEP), [], accept_source_change=False, console=console)
    assert result.left == 0
    return folder / "out"


@pytest.fixture
def sweep(played, tmp_path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "out"))
