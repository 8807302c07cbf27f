"""Whole sweeps through the command line."""

import json
import os
import signal
from pathlib import Path

import pytest

from agents.zero_shot import ZeroShot
from sweeps.storage.folder import LocalFolder
from tests.conftest import ROOT
from tests.runner.processes import below, end_of, kill, wait_for
from tests.runner.reading import outcomes, prompts, raw, words
from tests.sweep_files import BASE, write_sweep


def test_a_sweep_runs_prints_its_table_and_runs_nothing_the_second_time(ran, crsweep):
    path, out, first = ran
    assert "32 to run" in first
    assert "32 of 32" not in first  # 8 episodes a row
    assert first.count("8 of 8") == 4
    assert "WATERMARK" in first
    assert len(outcomes(out)) == 32
    files = sorted(p.name for p in (out / "episodes").iterdir())
    second = crsweep("run", path)
    assert "nothing to do: all 32 episodes are settled" in second.stdout
    assert sorted(p.name for p in (out / "episodes").iterdir()) == files
    tables = [text[text.index(" agent") : text.index("results:")] for text in
              (first, second.stdout)]  # fmt: skip
    assert tables[0] == tables[1]


def test_the_folder_contains_what_the_design_promises(ran_once):
    path, out, _ = ran_once
    assert (out / "sweep.yaml").read_text() == path.read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["driver_epoch"] == 1
    assert manifest["ended"] > manifest["started"]
    assert sorted(manifest["plugin_sources"]) == [
        "agents.core",
        "agents.react",
        "agents.zero_shot",
        "simulators.core",
        "simulators.domains.core",
        "simulators.domains.synthetic",
        "simulators.success.user_accepts",
        "simulators.users.core",
        "simulators.users.target_item",
        "workers.backends.core",
        "workers.backends.rules",
    ]
    episodes, turns, calls = raw(out, "episodes"), raw(out, "turns"), raw(out, "calls")
    assert set(turns.attempt_id) == set(calls.attempt_id) == set(episodes.attempt_id)
    assert (turns.groupby("attempt_id").turn.max().sort_index().to_numpy()
            == episodes.set_index("attempt_id").turns.sort_index().to_numpy()).all()  # fmt: skip
    assert set(episodes["axes"][0]) == {"agent", "roles.agent"}
    assert len(raw(out, "cases")) == 4
    of_calls = calls.input_tokens + calls.output_tokens
    by_attempt = of_calls.groupby(calls.attempt_id).sum()
    by_role = episodes.set_index("attempt_id")
    both = by_role.agent_tokens + by_role.user_tokens
    assert (by_attempt.sort_index() == both.sort_index()).all()


@pytest.mark.ray
def test_every_transcript_is_the_same_under_any_executor_concurrency_and_hash_seed(
    tmp_path, crsweep
):
    found = []
    for number, (executor, concurrency, hashes) in enumerate(
        [("local", 1, "0"), ("local", 64, "1"), ("ray", 64, "2")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = {"executor": executor, "concurrency": concurrency, "episode_workers": 2}
        crsweep("run", write_sweep(folder, run=run), PYTHONHASHSEED=hashes)
        found.append((outcomes(folder / "out"), words(folder / "out"), prompts(folder / "out")))
    for other in found[1:]:
        assert other == found[0]


def test_the_same_user_opens_with_the_same_words_before_every_agent(ran_once):
    turns, episodes = raw(ran_once.out, "turns"), raw(ran_once.out, "episodes")
    openings = turns[turns.turn == 0].merge(episodes[["attempt_id", "case_id", "seed"]])
    assert (openings.groupby(["case_id", "seed"]).user_text.nunique() == 1).all()


def test_a_larger_sample_runs_only_the_new_cases(ran, crsweep):
    path, out, _ = ran
    before = outcomes(out)
    grown = crsweep("run", path, "cases.sample=6")
    assert "48 episodes, 32 done, 16 to run" in grown.stdout
    after = outcomes(out)
    assert len(after) == 48
    assert before.items() <= after.items()


def test_a_new_metric_a_new_role_or_a_stated_default_runs_nothing(ran, crsweep):
    for change in ("metrics=[sr@2]", "roles.agent.planner=weak", "simulator.decides=model",
                   "simulator.leak_guard=false", "models.strong.skill=0.9"):  # fmt: skip
        assert " 0 to run" in crsweep("plan", ran.path, change).stdout, change


def test_changed_options_run_exactly_their_cells_and_the_table_shows_the_present_plan(
    ran, crsweep, tmp_path
):
    grid = {**BASE["grid"], "agent": ["zero_shot", {"name": "react", "max_thoughts": 3}]}
    changed = crsweep("run", write_sweep(tmp_path, grid=grid))
    assert "32 episodes, 16 done, 16 to run" in changed.stdout
    assert "agent react (max_thoughts=3)" in changed.stdout
    assert "react(max_thoughts=2)" not in changed.stdout


def changed_plugin(folder):
    """An agent in a package outside, and a sweep that uses it."""
    package = folder / "my_lab" / "quiet"
    (package / "prompts").mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    source = (ROOT / "agents/zero_shot/__init__.py").read_text()
    (package / "__init__.py").write_text(source)
    for prompt in (ROOT / "agents/zero_shot/prompts").iterdir():
        (package / "prompts" / prompt.name).write_text(prompt.read_text())
    grid = {"agent": ["my_lab.quiet"], "roles.agent": ["strong"], "seed": [0]}
    return package, write_sweep(folder, grid=grid)


def test_changed_source_is_refused_unless_accepted_and_a_new_version_runs_again(tmp_path, crsweep):
    package, path = changed_plugin(tmp_path)
    env = {"PYTHONPATH": str(tmp_path)}
    module = package / "__init__.py"
    crsweep("prepare", path, **env)
    module.write_text(module.read_text() + "\n# one line\n")
    crsweep("run", path, **env)  # no episode was there to be mixed with
    module.write_text(module.read_text() + "\n# another line\n")
    refused = crsweep("run", path, check=2, **env)
    version = ZeroShot.version
    assert f"the source of my_lab.quiet (version {version}) has changed" in refused.stderr
    assert refused.stderr.count("\n") == 1
    accepted = crsweep("run", path, "--accept-source-change", **env)
    assert "nothing to do" in accepted.stdout
    module.write_text(module.read_text() + f"\nZeroShot.version = {version + 1}\n")
    again = crsweep("run", path, **env)
    assert "4 to run" in again.stdout


def test_changed_prompts_run_their_cells_again(tmp_path, crsweep):
    package, path = changed_plugin(tmp_path)
    env = {"PYTHONPATH": str(tmp_path)}
    crsweep("run", path, **env)
    prompt = package / "prompts" / "decide.md.j2"
    prompt.write_text(prompt.read_text() + "\nBe brief.")
    assert "4 to run" in crsweep("run", path, **env).stdout


def committed(out) -> set[str]:
    parts = list((out / "episodes").glob("*.parquet")) if (out / "episodes").exists() else []
    return set(raw(out, "episodes").episode_id) if parts else set()


def test_cases_of_earlier_plans_are_removed_except_those_of_the_previous_one(tmp_path, crsweep):
    path, out = write_sweep(tmp_path), tmp_path / "out"
    for sample in (1, 2, 3):
        crsweep("run", path, f"cases.sample={sample}")
    assert LocalFolder(out).names("cases") == [
        "000002-driver-000001.parquet",
        "000003-driver-000001.parquet",
    ]
    crsweep("run", path, "cases.sample=3")
    assert LocalFolder(out).names("cases") == ["000003-driver-000001.parquet"]
    counted = crsweep("sql", out, "select count(*) from cases", "--format", "csv").stdout
    assert counted.splitlines()[1] == "3"


def half_asleep(folder, **changes):
    """A sweep whose run cannot end by itself: one of its two models is silent for an hour.

    With AWAKE the same sweep is quick.
    """
    silent = {"backend": "latency", "latency_ms": 3_600_000, "log": False}
    models = {"strong": BASE["models"]["strong"], "weak": silent}
    # No cache: what another test has asked must not be answered from it.
    return write_sweep(folder, models=models, cache="off", **changes)


AWAKE = "models.weak.latency_ms=0"


@pytest.mark.ray
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_after_sigkill_of_the_driver_no_committed_episode_runs_again_and_none_is_missing(
    tmp_path, crsweep, executor, start
):
    run = {"executor": executor, "concurrency": 60, "episode_workers": 2}
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    for folder in (undisturbed, killed):
        folder.mkdir()
    cases = {"sample": 10}
    crsweep("run", half_asleep(undisturbed, run=run, cases=cases), AWAKE, "run.executor=local")
    path, out = half_asleep(killed, run=run, cases=cases), killed / "out"
    process = start(path)
    wait_for(lambda: committed(out), process, "a commit")
    workers = below(process, "EpisodeWorker")
    assert len(workers) == {"local": 0, "ray": 2}[executor]
    kill(process)
    before = committed(out)
    assert 0 < len(before) <= 40
    # The storm in tests/chaos resumes on Ray.
    resumed = crsweep("run", path, AWAKE, "run.executor=local")
    assert f"80 episodes, {len(before)} done" in resumed.stdout
    episodes = raw(out, "episodes")
    assert set(episodes[episodes.driver_epoch == 2].episode_id).isdisjoint(before)
    assert outcomes(out) == outcomes(undisturbed / "out")
    table = crsweep("table", out, "--format", "csv").stdout
    assert table == crsweep("table", undisturbed / "out", "--format", "csv").stdout


@pytest.mark.ray
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_ctrl_c_commits_what_is_finished_and_says_how_to_resume(tmp_path, crsweep, executor, start):
    run = {"executor": executor, "concurrency": 64, "episode_workers": 2}
    path, out = half_asleep(tmp_path, run=run, cases={"sample": 10}), tmp_path / "out"
    process = start(path)
    wait_for(lambda: committed(out), process, "a commit")
    process.send_signal(signal.SIGINT)
    text = end_of(process)
    assert process.returncode == 3, text
    assert "to resume: " in text
    assert f"run {path}" in text
    assert "Traceback" not in text
    assert 0 < len(committed(out)) <= 40
    crsweep("run", path, AWAKE, "run.executor=local")
    assert len(outcomes(out)) == 80


def test_a_folder_that_is_in_use_is_refused_and_left_alone(tmp_path, crsweep, start):
    run = {"executor": "local", "concurrency": 32}
    path, out = half_asleep(tmp_path, run=run), tmp_path / "out"
    process = start(path)
    wait_for(lambda: committed(out), process, "a commit")
    before = {file: file.read_bytes() for file in out.rglob("*.parquet")}
    refused = crsweep("run", path, check=2)
    assert f"in use by another driver: host {os.uname().nodename}, pid {process.pid}" in (
        refused.stderr
    )
    assert process.poll() is None
    assert before == {file: file.read_bytes() for file in out.rglob("*.parquet")}
    kill(process)
    crsweep("run", path, AWAKE)
    assert len(outcomes(out)) == 32


def test_an_output_folder_of_something_else_is_refused_and_nothing_is_written(tmp_path, crsweep):
    path, out = write_sweep(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    assert "is not empty and contains no sweep" in crsweep("run", path, check=2).stderr
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]
    (out / "thesis.tex").unlink()
    out.rmdir()
    out.touch()
    assert "is a file" in crsweep("run", path, check=2).stderr


def test_an_output_folder_of_another_schema_version_is_refused(ran, crsweep):
    path, out, _ = ran
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 0}))
    for words_ in (("run", path), ("table", out), ("status", out)):
        assert "schema version 0" in crsweep(*words_, check=2).stderr


def test_there_is_nothing_to_prepare_without_artifacts(tmp_path, crsweep):
    said = crsweep("prepare", write_sweep(tmp_path)).stdout
    assert "nothing to prepare: the sweep needs no artifacts" in said


def test_bad_input_writes_nothing(tmp_path, crsweep):
    path = write_sweep(tmp_path, metrics=["sr@5", "srr@1"])
    refused = crsweep("run", path, check=2)
    assert "no metric is called 'srr'; did you mean 'sr'? (docs/" in refused.stderr
    assert refused.stderr.startswith(f"error: {path}:")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, crsweep):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write everywhere but in the kernel's own folder
        closed = Path("/proc/closed")
    refused = crsweep("run", write_sweep(tmp_path, out=str(closed / "out")), check=2)
    assert f"the output folder {closed / 'out'} cannot be written" in refused.stderr


def test_an_impossible_folder_is_refused(tmp_path, crsweep):
    (tmp_path / "file").touch()
    path = write_sweep(tmp_path, out=str(tmp_path / "file" / "out"))
    assert "cannot be written" in crsweep("run", path, check=2).stderr


def test_another_sweep_is_not_written_into_the_same_folder(ran, crsweep):
    refused = crsweep("run", ran.path, "name=other", check=2).stderr
    assert "holds the sweep 'small', not 'other'" in refused


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("__all__ = ['nope']\n", "exports 'nope', which it does not define"),
        ("__all__ = ['A']\nclass A: pass\n", "exports no Agent"),
    ],
)
def test_a_broken_plugin_is_one_clear_line(tmp_path, crsweep, source, expected):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "agent.py").write_text(source)
    path = write_sweep(tmp_path, grid={"agent": ["mine.agent"], "roles.agent": ["strong"]})
    refused = crsweep("plan", path, check=2, PYTHONPATH=str(tmp_path))
    assert expected in refused.stderr
    assert refused.stderr.count("\n") == 1
