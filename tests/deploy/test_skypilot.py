"""A SkyPilot task for a sweep."""

from __future__ import annotations

import json
import subprocess

import jsonschema
import yaml

from tests.conftest import ROOT
from tests.sweep_files import write_sweep

SCHEMA = json.loads((ROOT / "tests/schemas/skypilot-task.json").read_text())


def test_a_sweep_becomes_a_task_with_its_files(tmp_path, crsweep):
    run = {"executor": "local", "env_from": ["MY_KEY"]}
    path = write_sweep(tmp_path, out="s3://bucket/small", run=run)
    folder = tmp_path / "task"
    marked = "marked-secret-5dd2"
    done = crsweep("submit", path, "cases.sample=2", "--skypilot", folder, MY_KEY=marked)
    assert "sky launch --secret MY_KEY" in done.stdout
    task = yaml.safe_load((folder / "task.yaml").read_text())
    jsonschema.validate(task, SCHEMA)
    assert task["secrets"] == {"MY_KEY": None}
    assert task["workdir"] == str(folder / "package")
    command = next(line for line in task["run"].splitlines() if "-m runner run" in line)
    assert "sweep/sweep.yaml cases.sample=2 run.executor=ray run.ray_address=auto" in command
    subprocess.run(["bash", "-n"], input=task["run"] + task["setup"], text=True, check=True)
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert not any(marked in each.read_text(errors="replace") for each in files)
    needs = (folder / "package/requirements.txt").read_text()
    assert "ray[default]" in needs
    assert "boto3" in needs


def test_the_unpacked_package_is_a_crsweep_that_runs(tmp_path, crsweep):
    path = write_sweep(tmp_path)
    crsweep("submit", path, "--skypilot", tmp_path / "task", "--out", tmp_path / "results")
    package = tmp_path / "task/package"
    import sys

    words = [sys.executable, "-m", "runner", "plan", "sweep/sweep.yaml", "--json"]
    done = subprocess.run(words, cwd=package, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "small"
    (package / "agents/zero_shot/__init__.py").write_text("changed = True\n")
    done = subprocess.run(words, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "was changed after it was sent: agents/zero_shot/__init__.py differs" in done.stderr


def test_a_folder_that_is_in_use_is_refused(tmp_path, crsweep):
    path = write_sweep(tmp_path, out="s3://bucket/small")
    done = crsweep("submit", path, "--skypilot", tmp_path, check=2)
    assert "expected a new or empty folder" in done.stderr
