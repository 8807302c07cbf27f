"""Drivers that are followed by another: killed, paused, or at the same time."""

import json
import signal
import time

import pytest

from tests.runner.processes import end_of, kill, wait_for
from tests.runner.reading import outcomes, raw
from tests.sweep_files import BASE, write_sweep
from workers.results import bundles

QUICK = "models.weak.latency_ms=0"


def slow(folder, **changes):
    """A sweep of 64 dialogues, half of them with a model that takes a third of a second."""
    models = {"strong": BASE["models"]["strong"], "weak": {"backend": "latency", "latency_ms": 300}}
    run = {"executor": "local", "concurrency": 40}
    return write_sweep(folder, models=models, cache="off", run=run, cases={"sample": 8}, **changes)


def committed(out):
    return bundles.committed(out) if out.is_dir() else set()


def of_another_host(out, seconds):
    """The lease as a driver on another host sees it, for so many seconds."""
    lease = json.loads((out / "lease.json").read_text())
    lease |= {"host": "another", "expires": time.time() + seconds}
    (out / "lease.json").write_text(json.dumps(lease))


def test_after_sigkill_a_successor_on_another_host_waits_for_the_lease_and_completes(
    tmp_path, crsweep, start
):
    path, out = slow(tmp_path), tmp_path / "out"
    process = start(path)
    wait_for(lambda: committed(out), process, "a commit")
    kill(process)
    of_another_host(out, 3)  # not yet expired when the successor starts, at once
    before = committed(out)
    resumed = crsweep("run", path, QUICK, "--wait-for-lease", "180")
    assert "waiting for" in resumed.stdout
    assert "host another" in resumed.stdout
    episodes = raw(out, "episodes")
    assert set(episodes[episodes.driver_epoch == 2].episode_id).isdisjoint(before)
    assert len(outcomes(out)) == 64
    assert len(episodes) == len(set(episodes.episode_id))


def test_a_paused_driver_that_wakes_after_a_take_over_commits_and_merges_nothing(
    tmp_path, crsweep, start
):
    path, out = slow(tmp_path), tmp_path / "out"
    process = start(path)
    wait_for(lambda: committed(out), process, "a commit")
    process.send_signal(signal.SIGSTOP)
    try:
        of_another_host(out, -1)
        crsweep("run", path, QUICK)
        table = crsweep("table", out, "--format", "csv").stdout
        files = {file: file.read_bytes() for file in out.rglob("*.parquet")}
    finally:
        process.send_signal(signal.SIGCONT)
    said = end_of(process)
    assert process.returncode == 3, said
    assert "another driver has taken over" in said
    assert {file: file.read_bytes() for file in out.rglob("*.parquet")} == files
    assert crsweep("table", out, "--format", "csv").stdout == table
    lease = json.loads((out / "lease.json").read_text())
    assert (lease["epoch"], lease["released"]) == (2, True)


@pytest.mark.parametrize("count", [4])
def test_of_several_drivers_started_at_once_one_runs_and_the_others_name_it(tmp_path, start, count):
    path, out = slow(tmp_path), tmp_path / "out"
    processes = [start(path) for _ in range(count)]
    ended = [(process, end_of(process)) for process in processes]
    refused = [said for process, said in ended if process.returncode == 2]
    won = [process.pid for process, _ in ended if process.returncode == 0]
    assert len(won) == 1, ended
    assert len(refused) == count - 1
    assert all(f"pid {won[0]}" in said for said in refused)
    assert len(outcomes(out)) == 64
