"""The sbatch script: checked by shellcheck, and run with stand-ins for SLURM and Ray.

The stand-ins are small scripts that run what they are given on this machine. With SLURM itself the
script was run by hand, on one node: docs/cluster.md.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import LAST_GUARD_SECONDS, ROOT
from workers.results.lease import EXPIRES_AFTER

SCRIPT = ROOT / "deploy/slurm/crsweep.sbatch"
OPTIONS = {
    "job-name", "nodes", "ntasks-per-node", "cpus-per-task", "time", "requeue", "open-mode",
    "output", "signal",
}  # fmt: skip


def inner(name: str) -> str:
    """A script within the script."""
    found = re.search(rf"^{name}_script='\n(.*?)^'$", SCRIPT.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["whole", "head", "worker"])
def test_shellcheck_finds_nothing(name, tmp_path):
    text = SCRIPT.read_text() if name == "whole" else f"#!/bin/bash\n{inner(name)}"
    path = tmp_path / "script.sh"
    path.write_text(text)
    # SC2154: variables that the outer script exports. SC2016: scripts are passed on as they are.
    skip = "SC2016" if name == "whole" else "SC2154"
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-e", skip, path],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_directives_are_known_and_come_first():
    lines = SCRIPT.read_text().splitlines()
    found = [line for line in lines if line.startswith("#SBATCH")]
    names = [re.fullmatch(r"#SBATCH --([a-z-]+)(=.+)?", line) for line in found]
    assert {name[1] for name in names if name is not None} == OPTIONS
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(lines.index(line) < first_command for line in found)
    assert "--requeue" in SCRIPT.read_text()


def test_the_driver_waits_longer_than_a_lease():
    wait = re.search(r"--wait-for-lease=(\d+)", inner("head"))
    assert wait is not None
    assert int(wait[1]) > EXPIRES_AFTER


SRUN = """#!/bin/bash
while [ "$1" != bash ]; do
    case $1 in --exclude=*) exec="worker" ;; --nodelist=*) exec="head" ;; esac; shift
done
echo "srun $exec" >> "$LOG"
exec "$@"
"""
RAY = """#!/bin/bash
echo "ray $*" >> "$LOG"
for word in "$@"; do case $word in --temp-dir=*) tmp=${word#*=} ;; esac; done
case " $* " in
    *" --head "*) mkdir -p "$tmp"; echo 10.0.0.1:7777 > "$tmp/ray_current_cluster" ;;
    *" --block "*) echo "joined" >> "$LOG"; exec sleep 1000 ;;
esac
"""
CRSWEEP = """#!/bin/bash
echo "crsweep $* at $RAY_ADDRESS" >> "$LOG"
file=$RAY_AUTH_TOKEN_PATH
echo "$RAY_AUTH_MODE $(stat -c %a "$file") $(wc -c <"$file")" >> "$LOG"
[ "$MODE" = long ] || exit "${CODE:-0}"
trap 'echo committed >> "$LOG"; exit 3' TERM
echo "driver runs" >> "$LOG"
while :; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$LOG"
[ "$1" = show ] && printf 'n1\\nn2\\n' || true
"""


@pytest.fixture
def slurm(tmp_path):
    """Starts the script as SLURM would; the process, and what the stand-ins have noted."""
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    names = {"srun": SRUN, "ray": RAY, "crsweep": CRSWEEP, "scontrol": SCONTROL}
    for name, text in names.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    log = tmp_path / "log"
    started = []

    def start(*words: str, nodes: int = 2, **env: str):
        known = {
            "PATH": os.environ["PATH"], "LOG": str(log), "VENV": str(programs.parent),
            "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "12",
            "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_CPUS_PER_TASK": "2", "CRSWEEP_RAY_TMP": str(tmp_path), "MODE": "", **env,
        }  # fmt: skip
        process = subprocess.Popen(
            ["bash", SCRIPT, *words], env=known, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start, lambda: log.read_text().splitlines() if log.exists() else []
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # as SLURM ends the steps of a job
        except ProcessLookupError:
            continue


def wait_for(log, line: str, process) -> None:
    """Waits until a stand-in has noted this line."""
    until = time.monotonic() + LAST_GUARD_SECONDS
    while line not in log():
        assert process.poll() is None, (log(), process.stdout.read())
        assert time.monotonic() < until, log()
        time.sleep(0.02)


def test_workers_join_the_head_and_only_its_end_ends_the_job(slurm, tmp_path):
    start, log = slurm
    process = start("sweep.yaml", "out=/shared/my results", CODE="3")
    assert process.wait(LAST_GUARD_SECONDS) == 3
    lines = log()
    run = next(line for line in lines if line.startswith("crsweep run"))
    assert run == (
        "crsweep run --wait-for-lease=180 sweep.yaml out=/shared/my results run.executor=ray "
        "run.ray_address=auto at 10.0.0.1:7777"
    )
    assert {"srun head", "srun worker"} <= set(log())
    assert "token 600 64" in lines  # no one else can run code on the nodes
    assert not any("requeue" in line for line in lines)
    assert not list(tmp_path.glob(".crsweep-*"))


def test_out_of_time_the_driver_commits_and_the_job_is_requeued(slurm):
    start, log = slurm
    process = start("sweep.yaml", MODE="long")
    wait_for(log, "driver runs", process)
    wait_for(log, "joined", process)
    process.send_signal(signal.SIGTERM)  # to the batch script alone, as --signal=B:TERM does
    assert process.wait(LAST_GUARD_SECONDS) == 3
    assert "committed" in log()
    assert "scontrol requeue 12" in log()


def test_one_node_needs_no_workers(slurm):
    start, log = slurm
    assert start("sweep.yaml", nodes=1).wait(LAST_GUARD_SECONDS) == 0
    assert "srun worker" not in log()


def test_a_restarted_job_has_an_address_of_its_own(slurm, tmp_path):
    start, log = slurm
    old = tmp_path / ".crsweep-12-0.address"
    old.write_text("10.9.9.9:1\n")
    assert start("sweep.yaml", SLURM_RESTART_COUNT="1").wait(LAST_GUARD_SECONDS) == 0
    assert not any("10.9.9.9" in line for line in log())


def test_without_a_sweep_it_says_how_it_is_used(slurm):
    start, _ = slurm
    process = start()
    output, _ = process.communicate(timeout=LAST_GUARD_SECONDS)
    assert process.returncode == 2
    assert "usage: sbatch crsweep.sbatch SWEEP" in output
