"""Sweeps on a cluster: a head with its dashboard and two more nodes, as real processes here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.results import Results
from tests.conftest import LAST_GUARD_SECONDS
from tests.runner.cluster import LocalCluster, free_ports, local_cluster
from tests.runner.reading import outcomes
from tests.sweep_files import write_sweep
from workers.results import lease

pytestmark = pytest.mark.ray
MARK = "marked-secret-c41d9e"


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(nodes=3) as found:
        yield found


@pytest.fixture
def there(cluster, crsweep) -> Callable[..., Any]:
    """Runs a command of crsweep as a laptop that knows the cluster."""

    def call(*words: object, **env: str):
        check = env.pop("check", 0)
        known = {**cluster.env, "RAY_API_SERVER_ADDRESS": cluster.address, **env}
        return crsweep(*words, check=check, **known)

    return call


def test_a_sweep_gives_the_results_of_a_local_run(there, crsweep, tmp_path):
    path = write_sweep(tmp_path)
    crsweep("run", path)
    done = there("submit", path, "--out", tmp_path / "far", "--wait")
    assert "32 episodes (0 failed)" in done.stdout
    assert "Running entrypoint" not in done.stdout
    assert outcomes(tmp_path / "far") == outcomes(tmp_path / "out")
    manifest = Results.open(tmp_path / "far").manifest
    assert manifest.revision is not None
    assert manifest.runs[-1].command.startswith("crsweep submit")
    again = there("submit", path, "--out", tmp_path / "far", "--wait")
    assert "nothing" in again.stdout or "32 done" in again.stdout or "complete" in again.stdout


def test_it_is_planned_and_examined_there(there, cluster, tmp_path):
    path = write_sweep(tmp_path)
    planned = there("plan", path, "--json", "--address", cluster.address)
    assert json.loads(planned.stdout)["left"] == 32
    done = there("doctor", path, "--address", cluster.address, "--out", tmp_path / "shared")
    assert "3 nodes, 0 GPUs, 1 data set read on each" in done.stdout
    assert not list((tmp_path / "shared").iterdir())
    wrong = write_sweep(tmp_path, name="far.yaml", domain={"name": "movielens", "path": "/missing"})
    done = there("submit", wrong, "--out", tmp_path / "shared", "--wait", check=2)
    assert "/missing" in done.stdout


def slow(folder: Path) -> Path:
    """More than any machine plays during this test; a smaller sample is a prefix of it."""
    return write_sweep(
        folder,
        name="slow.yaml",
        models={"m": {"backend": "latency", "latency_ms": 200}},
        roles={"user": "m", "agent": "m"},
        grid={"agent": ["zero_shot"], "seed": [0, 1, 2, 3]},
        domain={"name": "synthetic", "items": 120, "users": 20_000, "history": 8},
        cases={"sample": 20_000},
        run={"concurrency": 8},
        cache="off",
    )


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + LAST_GUARD_SECONDS
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {LAST_GUARD_SECONDS:g} s for {what}")


def test_submit_watch_stop_and_submit_again(there, cluster, tmp_path):
    path, out = slow(tmp_path), tmp_path / "far"
    sent = there("submit", path, "--out", out)
    job = next(line for line in sent.stdout.splitlines() if line.startswith("job: "))[5:]
    committed = wait_until(
        lambda: out.joinpath("episodes").is_dir() and list(out.glob("episodes/*.parquet")),
        "episodes",
    )
    assert committed
    held = lease.holder(out)
    assert held is not None
    assert "running: host" in there("status", out).stdout
    assert "joining the Ray cluster" in there("logs").stdout
    assert f"{job} " in there("jobs").stdout

    # A second one at the same time is refused, and names the first.
    second = there("submit", path, "--out", out, "--wait", "--wait-for-lease", "60", check=2)
    assert f"is in use by another driver: host {held['host']}, pid {held['pid']}" in second.stdout

    there("stop", job)
    assert lease.holder(out) is None
    assert json.loads((out / "lease.json").read_text())["released"]
    assert "stopping: finished episodes are being committed" in there("logs", job).stdout
    before = {row[0] for row in rows(out, "SELECT attempt_id FROM attempts")}
    assert before

    cases = len(before) // 4 + 5  # the first ones are done, the last ones are not
    there("submit", path, f"cases.sample={cases}", "--out", out, "--wait")
    attempts = rows(out, "SELECT attempt_id, episode_id FROM attempts")
    assert before < {attempt for attempt, _ in attempts}
    assert len(attempts) == len({episode for _, episode in attempts})
    done = rows(out, "SELECT count(*) FROM episodes WHERE status = 'done'")
    assert done == [(4 * cases,)]


def rows(out: Path, query: str) -> list[tuple[Any, ...]]:
    return Results.open(out).query(query).fetchall()


def test_nodes_that_come_are_used_and_nodes_that_go_cost_no_committed_episode(
    there, cluster, tmp_path
):
    """Two nodes join and get a worker each. One leaves with notice: its worker commits and ends.
    The other is killed without notice: what its worker had not committed runs elsewhere."""
    path, out = slow(tmp_path), tmp_path / "far"
    sent = there("submit", path, "run.episode_workers=auto", "--out", out)
    job = next(line for line in sent.stdout.splitlines() if line.startswith("job: "))[5:]

    def says(words: str) -> bool:
        return words in there("logs", job).stdout

    def committed_by(writer: str) -> set[Path]:
        return set(out.glob(f"episodes/*-{writer}-*.parquet"))

    def commits_of(*writers: str) -> None:
        wait_until(lambda: all(map(committed_by, writers)), f"commits of {', '.join(writers)}")

    commits_of("w000", "w001", "w002")
    drained = cluster.add_node(free_ports(1)[0])
    wait_until(lambda: says("worker w003 has joined"), "the first node that joined")
    killed = cluster.add_node(free_ports(1)[0])
    wait_until(lambda: says("worker w004 has joined"), "the second node that joined")
    commits_of("w003", "w004")

    drain(cluster, drained)
    wait_until(lambda: says("the node of worker w003 leaves the cluster"), "the notice")
    cluster.end_node(drained)
    committed = set(rows(out, "SELECT attempt_id, episode_id FROM attempts"))
    cluster.end_node(killed)
    wait_until(lambda: says("worker w004 was lost; its unfinished episodes run again"), "the loss")
    assert not says("the node of worker w004 leaves the cluster")
    earlier = committed_by("w000")
    wait_until(lambda: committed_by("w000") - earlier, "commits after the loss")
    there("stop", job)
    before = rows(out, "SELECT attempt_id, episode_id FROM attempts")
    assert committed < set(before)
    assert len(before) == len({episode for _, episode in before})

    cases = len(before) // 4 + 5
    there("submit", path, f"cases.sample={cases}", "--out", out, "--wait")
    attempts = rows(out, "SELECT attempt_id, episode_id FROM attempts")
    assert set(before) < set(attempts)
    assert len(attempts) == len({episode for _, episode in attempts})


def drain(cluster: LocalCluster, folder: Path) -> None:
    """Announces the end of a node, as a spot machine does."""
    command = (
        "import sys, ray; from ray._private.state import state; "
        "from ray._raylet import GcsClient; ray.init(address=sys.argv[1], log_to_driver=False); "
        "[node] = [n['NodeID'] for n in ray.nodes() if n['Alive'] and "
        "n['RayletSocketName'].startswith(sys.argv[2])]; "
        "print(GcsClient(address=sys.argv[1]).drain_node(node, 2, 'spot', "
        "int(__import__('time').time() * 1000) + 600_000))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, cluster.gcs, str(folder)], capture_output=True,
        text=True, env=cluster.ray_env, timeout=LAST_GUARD_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_secret_of_the_cluster_is_never_seen(there, cluster, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "MY_KEY").write_text(f"{MARK}\n")
    path = write_sweep(tmp_path, vars={"note": "none"}, cases={"sample": 1})
    there(
        "submit", path, "run.env_from=[MY_KEY]", f"run.env_file={keys}",
        "vars.note=${oc.env:MY_KEY}", "--out", tmp_path / "far", "--wait",
    )  # fmt: skip
    refused = there("submit", path, f"vars.note={MARK}", "--out", tmp_path / "far",
                    check=2, MY_KEY=MARK)  # fmt: skip
    assert MARK not in refused.stdout + refused.stderr
    shutil.rmtree(keys)
    missing = there(
        "submit", path, "run.env_from=[MY_KEY]", "--out", tmp_path / "far", "--wait", check=2
    )
    assert "the environment variable MY_KEY is not set" in missing.stdout

    assert MARK.encode() not in cluster.text_of_logs()
    for place in ("api/jobs/", "api/v0/actors?detail=true", "api/v0/tasks?detail=true",
                  "api/v0/runtime_envs?detail=true", "nodes?view=summary"):  # fmt: skip
        shown = asked(cluster, place)
        assert MARK.encode() not in shown
    assert b"vars.note=${oc.env:MY_KEY}" in asked(cluster, "api/jobs/")
    stored = [each.read_bytes() for each in (tmp_path / "far").rglob("*") if each.is_file()]
    assert not any(MARK.encode() in content for content in stored)


def test_what_send_env_sends_is_warned_about(there, cluster, tmp_path):
    path = write_sweep(tmp_path, vars={"note": "none"}, cases={"sample": 1})
    words = ["submit", path, "vars.note=${oc.env:SENT}", "--send-env", "SENT", "--out",
             tmp_path / "far", "--wait"]  # fmt: skip
    done = there(*words, SENT="shown-value")
    assert "the cluster's dashboard shows the value of SENT" in done.stdout
    assert b"shown-value" in asked(cluster, "api/jobs/")


def asked(cluster: LocalCluster, place: str) -> bytes:
    token = Path(cluster.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(
        f"{cluster.address}/{place}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=LAST_GUARD_SECONDS) as answer:
        return answer.read()
