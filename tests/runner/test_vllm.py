"""Sweeps through the command line, with real Ray and real vLLM on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests import tiny_models
from tests.conftest import ROOT
from tests.runner.reading import raw
from tests.sweep_files import write_sweep

pytestmark = [pytest.mark.vllm, pytest.mark.ray]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {family: str(tiny_models.make(folder, family)) for family in tiny_models.FAMILIES}


def tiny(models, family="llama", **options):
    return {
        "backend": "vllm",
        "model": models[family],
        "max_model_len": 4096,
        "max_inflight": 32,
        "sampling": {"temperature": 0.7, "max_tokens": 600},
        **options,
    }


def small_sweep(folder, checkpoints, *, cases=4, replicas=1, turns=2, **changes):
    """One agent and one user on one tiny Llama."""
    folder.mkdir(exist_ok=True)
    settings = {
        "models": {"tiny": tiny(checkpoints, replicas=replicas)},
        "roles": {"user": "tiny", "agent": "tiny"},
        "grid": {"agent": ["zero_shot"], "seed": [0]},
        "domain": {"name": "synthetic", "items": 120, "users": 5000},
        "cases": {"sample": cases},
        "limits": {"max_turns": turns, "shown_items": 3},
        "cache": {"path": str(folder / "cache")},  # what another test has paid for must not help
        "run": {"executor": "ray", "episode_workers": 2, "concurrency": 24},
        **changes,
    }
    return write_sweep(folder, **settings)


@pytest.fixture
def start():
    """Starts runs, and ends them with all that they started, whatever became of the test."""
    started = []

    def call(path):
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", "run", str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            left = below(process)
            process.kill()
            process.wait()
            psutil.wait_procs(left, timeout=20)


def below(process):
    """Every process that a driver has started, directly or not."""
    return psutil.Process(process.pid).children(recursive=True)


def named(processes, words):
    found = []
    for process in processes:
        try:
            if words in " ".join(process.cmdline()) or words in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}")


def committed(out):
    return len(raw(out, "episodes")) if list((out / "episodes").glob("*.parquet")) else 0


def wait_for_episodes(process, out):
    """Until the first are committed; the run is in full swing then."""

    def there():
        assert process.poll() is None, process.communicate()[0]
        return committed(out)

    wait_for(there, 150, "the first episodes")


def is_gone(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def assert_all_gone(processes, seconds=30):
    def left():
        return [p for p in processes if not is_gone(p)]

    try:
        wait_for(lambda: not left(), seconds, "the end of all processes")
    except AssertionError:
        found = [(p.pid, p.name(), p.status()) for p in left()]
        for process in left():
            process.kill()
        raise AssertionError(f"left behind: {found}") from None


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def test_the_tiny_sweep_completes_with_valid_replies_and_its_records_are_the_engines_own(
    tmp_path, models, crsweep
):
    out = tmp_path / "out"
    done = crsweep(
        "run", "sweeps/tiny_vllm.yaml", f"out={out}", f"cache.path={tmp_path / 'cache'}",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    )  # fmt: skip
    assert "32 episodes (0 failed)" in done.stdout
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert list(episodes.status) == ["done"] * 32
    assert calls.valid.all()
    assert set(calls.finish_reason) == {"stop"}
    assert calls.seed.between(0, 2**48 - 1).all()
    assert (calls.output_tokens > 0).all()
    for entry in manifest(out)["engines"]:
        mine = calls[(calls.model == entry["label"]) & ~calls.cached]
        assert len(mine) > 0
        assert mine.input_tokens.sum() == entry["prompt_tokens"]
        assert mine.output_tokens.sum() == entry["output_tokens"]
        assert set(mine.fingerprint) == set(entry["fingerprints"])
        assert entry["prefix_hits"] > 0
        assert len(entry["weights"]["content"]) == 32
        assert entry["deaths"] == 0
    for name, turn in (("llama", "prefix cache"), ("qwen", "prefix cache")):
        assert any(
            line.startswith(f"{name}: ") and turn in line
            for line in crsweep("status", out).stdout.splitlines()
        )
    assert "nothing to do" in crsweep(
        "run", "sweeps/tiny_vllm.yaml", f"out={out}", f"cache.path={tmp_path / 'cache'}",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    ).stdout  # fmt: skip


def test_a_killed_engine_and_a_killed_actor_lose_no_episode(tmp_path, models, start):
    path = small_sweep(tmp_path / "a", models, cases=160, replicas=2)
    out = tmp_path / "a" / "out"
    process = start(path)
    wait_for_episodes(process, out)
    engine = wait_for(lambda: named(below(process), "EngineCore"), 10, "an engine's process")[0]
    actors = named(below(process), "ModelReplica")
    assert len(actors) == 2
    other = next(a for a in actors if a.pid != engine.ppid())
    engine.send_signal(signal.SIGKILL)
    time.sleep(1.0)
    other.send_signal(signal.SIGKILL)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert len(episodes) == 160
    assert not episodes.episode_id.duplicated().any()
    assert set(episodes.status) == {"done"}
    assert calls.retries.max() >= 1
    [entry] = manifest(out)["engines"]
    assert entry["deaths"] == 2
    assert entry["seconds_down"] > 0
    assert "2 deaths" in printed
    assert "calls were in engines that died" in printed


def test_an_engine_that_is_stopped_is_found_stalled_and_replaced(tmp_path, models, start):
    path = small_sweep(tmp_path / "a", models, cases=120, replicas=2)
    out = tmp_path / "a" / "out"
    process = start(path)
    wait_for_episodes(process, out)
    engine = wait_for(lambda: named(below(process), "EngineCore"), 10, "an engine's process")[0]
    engine.send_signal(signal.SIGSTOP)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    episodes = raw(out, "episodes")
    assert len(episodes) == 120
    assert set(episodes.status) == {"done"}
    [entry] = manifest(out)["engines"]
    assert entry["deaths"] == 1
    assert entry["death_causes"][0].startswith("the engine hangs: no step for ")
    assert_all_gone([engine])


def test_a_model_that_cannot_load_fails_its_cells_with_one_message_and_others_go_on(
    tmp_path, models, start
):
    path = small_sweep(
        tmp_path / "a",
        models,
        models={
            "good": tiny(models),
            "bad": tiny(models, "qwen", max_model_len=100_000),  # it knows 4,096 positions
        },
        roles={"user": "good"},
        grid={"roles.agent": ["good", "bad"], "agent": ["zero_shot"], "seed": [0]},
    )
    out = tmp_path / "a" / "out"
    process = start(path)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 3, printed
    [line] = [each for each in printed.splitlines() if each.startswith("bad: the model cannot")]
    assert "max_model_len" in line
    episodes = raw(out, "episodes")
    assert sorted(episodes.status) == ["done"] * 4 + ["failed"] * 4
    failed = episodes[episodes.status == "failed"]
    assert set(failed.error_class) == {"EngineRefused"}
    assert set(failed.blame) == {"infrastructure"}


@pytest.mark.parametrize("end", ["ctrl-c", "driver", "raylet"])
def test_no_engine_process_is_left_behind(tmp_path, models, end, start):
    path = small_sweep(tmp_path / "a", models, cases=2000)
    out = tmp_path / "a" / "out"
    process = start(path)
    wait_for_episodes(process, out)
    engines, replicas = (named(below(process), words) for words in ("VLLM::", "ModelReplica"))
    started = [*engines, *replicas, *named(below(process), "EpisodeWorker")]
    assert len(engines) >= 1
    assert len(replicas) == 1
    assert len(started) == len(engines) + 3
    if end == "ctrl-c":
        process.send_signal(signal.SIGINT)
    elif end == "driver":
        process.kill()
    else:
        named(below(process), "raylet/raylet")[0].kill()
    printed, _ = process.communicate(timeout=120)
    assert_all_gone(started)
    assert manifest(out)["engines"][0]["fingerprints"], "calls whose fingerprint nothing explains"
    assert process.returncode == {"ctrl-c": 3, "driver": -9, "raylet": 3}[end], printed
    assert "Traceback" not in printed


def test_no_engine_process_outlives_a_local_driver(tmp_path, models, start):
    run = {"executor": "local", "concurrency": 8}
    path = small_sweep(tmp_path / "a", models, cases=2000, run=run)
    process = start(path)
    wait_for_episodes(process, tmp_path / "a" / "out")
    started = below(process)
    assert named(started, "VLLM::")
    process.kill()
    process.communicate(timeout=60)
    assert_all_gone(started)


def test_a_local_run_serves_itself_and_records_an_overflow_with_its_sizes(
    tmp_path, models, crsweep
):
    path = small_sweep(
        tmp_path / "a",
        models,
        models={"tiny": tiny(models, max_model_len=1100)},
        run={"executor": "local", "concurrency": 4},
    )
    out = tmp_path / "a" / "out"
    crsweep("run", path)
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert set(episodes.error_class) == {"ContextOverflow"}
    assert set(episodes.blame) <= {"agent", "user"}
    over = calls[calls.error_class == "ContextOverflow"]
    assert len(over) == 4
    assert over.error.str.contains(
        r"a prompt of [\d,]+ tokens and a reply of up to 600 do not"
    ).all()
