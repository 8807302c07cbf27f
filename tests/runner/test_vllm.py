"""Sweeps through the command line, with real Ray and real vLLM on the CPU."""

import json
import re
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests import tiny_models
from tests.runner.processes import assert_gone, below, end_of, kill, wait_for
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from workers.backends.vllm.serving.sockets import VARIABLE
from workers.cache import journal

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
    """One agent and one user on one tiny Llama. One worker is enough where its death is no matter.

    Each more costs its start.
    """
    folder.mkdir(exist_ok=True)
    settings = {
        "models": {"tiny": tiny(checkpoints, replicas=replicas)},
        "roles": {"user": "tiny", "agent": "tiny"},
        "grid": {"agent": ["zero_shot"], "seed": [0]},
        "domain": {"name": "synthetic", "items": 120, "users": 5000},
        "cases": {"sample": cases},
        "limits": {"max_turns": turns, "shown_items": 3},
        "cache": {"path": str(folder / "cache")},  # what another test has paid for must not help
        "run": {"executor": "ray", "episode_workers": 1, "concurrency": 24},
        **changes,
    }
    return write_sweep(folder, **settings)


@pytest.fixture
def sockets(monkeypatch):
    """Where engines make their sockets."""
    with TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        monkeypatch.setenv(VARIABLE, folder)
        yield Path(folder)


@pytest.fixture
def start(start, monkeypatch):
    """Starts runs, and ends them with all that they started, whatever became of the test."""
    monkeypatch.setenv("COLUMNS", "200")
    started = []

    def call(path):
        started.append(start(path))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            kill(process)


def committed(out):
    return len(raw(out, "episodes")) if list((out / "episodes").glob("*.parquet")) else 0


def wait_for_episodes(process, out):
    """Until the first are committed; the run is in full swing then."""
    wait_for(lambda: committed(out), process, "the first episodes")


def answered(out):
    """How many calls were answered so far, committed or not."""
    return sum(sum(1 for _ in journal.read(file)) for file in journal.files(out))


def serving(process, out, number):
    """The pids of the replicas, once `number` have come up and calls are answered."""

    def there():
        log = out / "logs" / "000001-driver.log"
        text = log.read_text() if log.exists() else ""
        found = re.findall(r"tiny, replica \d is ready, pid (\d+)", text)
        return found if len(found) >= number else []

    found = wait_for(there, process, f"{number} replicas to come up")
    before = answered(out)
    wait_for(lambda: answered(out) > before, process, "their first calls")
    return [int(pid) for pid in found]


def engine_of(process, replica):
    [engine] = [each for each in below(process, "VLLM::EngineCore") if each.ppid() == replica]
    return engine


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def test_the_tiny_sweep_completes_with_valid_replies_and_its_records_are_the_engines_own(
    tmp_path, models, crsweep
):
    out = tmp_path / "out"
    done = crsweep(
        "run", "sweeps/tiny_vllm.yaml", f"out={out}", f"cache.path={tmp_path / 'cache'}",
        "cases.sample=1",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    )  # fmt: skip
    assert "8 episodes (0 failed)" in done.stdout
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert list(episodes.status) == ["done"] * 8
    assert calls.valid.all()
    assert set(calls.finish_reason) == {"stop"}
    assert not calls.retries.any()
    assert "engines that died" not in done.stdout
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
        "cases.sample=1",
        *(f"models.{family}.model={path}" for family, path in models.items()),
    ).stdout  # fmt: skip


def test_a_killed_engine_a_killed_actor_and_an_engine_that_hangs_lose_no_episode(
    tmp_path, models, start
):
    """Two runs at a time. No call can be there at three deaths: it would be given up."""
    two_workers = {"executor": "ray", "episode_workers": 2, "concurrency": 24}
    paths = {
        "killed": small_sweep(tmp_path / "killed", models, cases=24, replicas=2, run=two_workers),
        "hung": small_sweep(tmp_path / "hung", models, cases=24),
    }
    runs = {name: start(path) for name, path in paths.items()}
    outs = {name: path.parent / "out" for name, path in paths.items()}
    hung = engine_of(runs["hung"], *serving(runs["hung"], outs["hung"], 1))
    hung.suspend()
    first, second = serving(runs["killed"], outs["killed"], 2)
    engine_of(runs["killed"], first).kill()
    psutil.Process(second).kill()
    for name, process in runs.items():
        printed = end_of(process)
        assert process.returncode == 0, printed
        episodes, calls = raw(outs[name], "episodes"), raw(outs[name], "calls")
        assert len(episodes) == 24
        assert not episodes.episode_id.duplicated().any()
        assert set(episodes.status) == {"done"}
        assert calls.retries.max() >= 1
        [entry] = manifest(outs[name])["engines"]
        assert entry["deaths"] == {"killed": 2, "hung": 1}[name]
        hangs = [
            each.startswith("the engine hangs: no step for ") for each in entry["death_causes"]
        ]
        assert any(hangs) == (name == "hung")
        assert entry["seconds_down"] > 0
        assert f"{entry['deaths']} death" in printed
        assert "calls were in engines that died" in printed
    assert_gone([hung])


def test_a_model_that_cannot_load_fails_its_cells_with_one_message_and_others_go_on(
    tmp_path, models, start
):
    path = small_sweep(
        tmp_path / "a",
        models,
        models={
            "good": {"backend": "rules"},
            "bad": tiny(models, "qwen", max_model_len=100_000),  # more than it knows
        },
        roles={"user": "good"},
        grid={"roles.agent": ["good", "bad"], "agent": ["zero_shot"], "seed": [0]},
    )
    out = tmp_path / "a" / "out"
    process = start(path)
    printed = end_of(process)
    assert process.returncode == 3, printed
    [line] = [each for each in printed.splitlines() if each.startswith("bad: the model cannot")]
    assert "max_model_len" in line
    episodes = raw(out, "episodes")
    assert sorted(episodes.status) == ["done"] * 4 + ["failed"] * 4
    failed = episodes[episodes.status == "failed"]
    assert set(failed.error_class) == {"EngineRefused"}
    assert set(failed.blame) == {"infrastructure"}


@pytest.mark.parametrize("ends", [("driver", "raylet"), ("ctrl-c", "local driver")])
def test_no_engine_process_and_no_socket_is_left_behind(tmp_path, models, ends, start, sockets):
    """Two runs at a time: one alone would leave half of a small machine idle."""
    runs = {}
    for end in ends:
        run = {"executor": "local" if end == "local driver" else "ray", "episode_workers": 2,
               "concurrency": 8}  # fmt: skip
        path = small_sweep(tmp_path / end.replace(" ", "-"), models, cases=2000, run=run)
        runs[end] = (start(path), path.parent / "out")
    for end, (process, out) in runs.items():
        wait_for_episodes(process, out)
        engines, replicas = (below(process, words) for words in ("VLLM::", "ModelReplica"))
        started = [*engines, *replicas, *below(process, "EpisodeWorker")]
        assert len(engines) >= 1
        if end != "local driver":
            assert len(replicas) == 1
            assert len(started) == len(engines) + 3
        if end == "ctrl-c":
            process.send_signal(signal.SIGINT)
        elif end == "raylet":
            below(process, "raylet/raylet")[0].kill()
        else:
            process.kill()
        printed = end_of(process)
        assert_gone(started)
        assert end == "local driver" or manifest(out)["engines"][0]["fingerprints"], (
            "calls whose fingerprint nothing explains"
        )
        code = {"ctrl-c": 3, "driver": -9, "local driver": -9, "raylet": 3}[end]
        assert process.returncode == code, printed
        assert "Traceback" not in printed
    assert list(sockets.iterdir()) == []


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
    done = crsweep("run", path)
    said = (done.stdout + done.stderr).replace(sys.executable, "python")
    for words in ("INFO", "WARNING", "vllm"):  # vLLM's own lines are in logs/
        assert words not in said
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert set(episodes.error_class) == {"ContextOverflow"}
    assert set(episodes.blame) <= {"agent", "user"}
    over = calls[calls.error_class == "ContextOverflow"]
    assert len(over) == 4
    assert over.error.str.contains(
        r"a prompt of [\d,]+ tokens and a reply of up to 600 do not"
    ).all()


def test_a_preference_tree_is_built_by_the_engines_that_play_with_it(tmp_path, models, crsweep):
    """AF-IRS, whole, with real replies: random words, but every one of them as its schema says."""
    path = small_sweep(
        tmp_path / "a",
        models,
        cases=2,
        turns=1,
        models={"tiny": tiny(models, max_model_len=8192,
                             sampling={"temperature": 0.7, "max_tokens": 3000})},
        grid={"agent": [{"name": "af_irs", "attributes": ["genre"], "batch_items": 20}],
              "seed": [0]},
        domain={"name": "synthetic", "items": 40, "users": 5000},
        artifacts={"path": str(tmp_path / "artifacts")},
    )  # fmt: skip
    out = tmp_path / "a" / "out"
    assert "2 episodes (0 failed)" in crsweep("run", path).stdout
    calls = raw(out, "calls")
    assert calls.valid.all()
    assert set(calls.finish_reason) == {"stop"}
    assert {"extract", "prefer", "respond"} <= set(calls.step)
    again = crsweep("prepare", path).stdout
    assert "nothing to make" in again or "ready" in again
