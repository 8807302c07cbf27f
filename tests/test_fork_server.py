"""The process that runs the command line for the tests."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.sweep_files import write_sweep


def test_a_forked_command_prints_and_ends_as_one_that_starts_from_nothing(tmp_path, fork_server):
    broken = write_sweep(tmp_path, metrics=["srr@1"])
    for words in (["run", str(broken)], ["table"], ["plan", str(broken), "metrics=[sr@1]"]):
        env = {**os.environ, "COLUMNS": "200"}
        fresh = subprocess.run(
            [sys.executable, "-m", "runner", *words],
            capture_output=True, text=True, cwd=ROOT, env=env, check=False,
        )  # fmt: skip
        forked = fork_server.run(words, env, 60)
        assert forked.returncode == fresh.returncode
        assert forked.stdout == fresh.stdout
        assert forked.stderr == fresh.stderr


def test_each_command_has_its_own_environment(fork_server):
    for columns in (60, 150):
        said = fork_server.run(["--help"], {**os.environ, "COLUMNS": str(columns)}, 60)
        assert max(map(len, said.stdout.splitlines())) == columns


def test_a_command_that_takes_too_long_is_ended(tmp_path, fork_server):
    silent = {"backend": "latency", "latency_ms": 3_600_000}
    path = write_sweep(tmp_path, models={"strong": silent, "weak": silent}, cache="off")
    with pytest.raises(subprocess.TimeoutExpired):
        fork_server.run(["run", str(path)], dict(os.environ), 2)
    assert fork_server.run(["--help"], dict(os.environ), 60).returncode == 0
