"""Joining a cluster: what is wrong with its address is said at once; what it lacks is sent."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agents.core.errors import UsageError
from tests.conftest import LAST_GUARD_SECONDS
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.backends.fake_openai import FakeOpenAI
from workers.executors import ray_cluster
from workers.executors.ray_cluster import _why_no_ray, check_cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://localhost:{}", "auto"])
def test_a_cluster_that_is_not_there_is_one_line_with_a_way_out(monkeypatch, form):
    address = form.format(free_port())
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(UsageError, match=r"no Ray cluster at .*:\d+ \(Connection refused\)") as e:
        check_cluster(address)
    assert "ray start --head" in e.value.message
    assert "run.ray_address=null" in e.value.message


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "127.0.0.1:99999"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UsageError, match=r"run\.ray_address"):
        check_cluster(address)


@pytest.mark.ray
@pytest.mark.parametrize("listener", ["mute", "http"])
def test_what_listens_there_but_is_no_ray_is_one_line_with_a_way_out(monkeypatch, capfd, listener):
    monkeypatch.setattr(ray_cluster, "_HEALTH_SECONDS", 2.0)  # neither ever answers as Ray does
    with socket.create_server(("127.0.0.1", 0)) as mute, FakeOpenAI() as server:
        port = mute.getsockname()[1] if listener == "mute" else urlsplit(server.url).port
        with pytest.raises(UsageError) as e:
            check_cluster(f"127.0.0.1:{port}")
    assert f"something listens at 127.0.0.1:{port}, but it is not a Ray cluster" in e.value.message
    assert "run.ray_address=null" in e.value.message
    assert capfd.readouterr() == ("", "")


def test_a_ray_that_does_not_start_on_a_busy_machine_is_one_line(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup. This could happen")

    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "init", init)
    with pytest.raises(UsageError, match="Ray does not start: The current node timed out"):
        ray_cluster.start_ray(None)


def test_a_temporary_folder_whose_path_is_too_long_is_named(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/long/path")
    said = _why_no_ray(None, OSError("AF_UNIX path length cannot exceed 107 bytes: /long/path/ray"))
    assert "/long/path" in said
    assert "set RAY_TMPDIR to a shorter one" in said


@pytest.mark.ray
def test_a_key_that_the_cluster_has_not_got_travels_to_its_workers_and_into_no_file(
    tmp_path, crsweep
):
    """The cluster was started with an older key of that name."""
    key = "sk-travels-0123456789"
    # A token of this cluster's own: without one, what Ray does depends on who runs the tests.
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder, FakeOpenAI() as server:
        port = free_port()
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--head", "--block",
            f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}",
        ]  # fmt: skip
        cluster = subprocess.Popen(
            command, env={**os.environ, "FAULTS_KEY": "sk-old", **auth}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            assert cluster.stdout is not None
            for line in cluster.stdout:
                if "Ray runtime started" in line:
                    break
            else:
                raise AssertionError("the cluster did not start")
            remote = {"backend": "openai", "base_url": server.url, "model": "qwen"}
            path = write_sweep(
                tmp_path,
                models={
                    "strong": {"backend": "rules"},
                    "far": {**remote, "api_key_env": "FAULTS_KEY"},
                },
                roles={"user": "far"},
                grid={"agent": ["zero_shot"], "roles.agent": ["strong"], "seed": [0]},
                cases={"sample": 2},
                run={"executor": "ray", "episode_workers": 1, "ray_address": f"127.0.0.1:{port}"},
            )
            done = crsweep("run", path, check=None, FAULTS_KEY=key, **auth)
        finally:
            os.killpg(cluster.pid, signal.SIGTERM)
            cluster.wait(timeout=LAST_GUARD_SECONDS)
        sent = {asked.headers.get("authorization") for asked in server.asked}
        assert sent == {f"Bearer {key}"}, done.stdout + done.stderr
        episodes = raw(tmp_path / "out", "episodes")
        # The server's replies do not match the schema: the user's fault, and settled.
        assert set(zip(episodes.error_class, episodes.blame, strict=True)) == {
            ("ReplyInvalid", "user")
        }
        for written in (Path(folder), tmp_path / "out"):
            for file in written.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    assert key.encode() not in file.read_bytes(), file
