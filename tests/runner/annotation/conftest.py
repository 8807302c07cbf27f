"""A sweep that was played once, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest

from tests.runner.annotation.forms import SWEEP, play


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    return play(tmp_path_factory.mktemp("played"), SWEEP)


@pytest.fixture
def sweep(played, tmp_path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "out"))
