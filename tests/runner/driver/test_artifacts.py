"""What agents need prepared: made once, before the dialogues, resumably; damage is reported."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import psutil
import pyarrow.parquet as pq
import pytest

from analysis.results import Results
from sweeps.artifacts import artifact_task
from tests.conftest import LAST_GUARD_SECONDS, ROOT
from tests.runner.processes import (
    assert_gone,
    copy_run,
    end_of,
    kill,
    run_for_several,
    wait_for,
)
from tests.runner.reading import log, outcomes, raw
from tests.sweep_files import plan_of, write_sweep
from workers.artifacts.store import ArtifactStore

AGENT = "tests.prepared_agent"
LATENCY = {"backend": "latency", "latency_ms": 5}


def sweep(folder, *, agent=None, model=None, store=None, seeds=(0, 1), **changes):
    folder.mkdir(exist_ok=True)
    options = {"name": AGENT, "log": str(folder / "epochs.jsonl"), **(agent or {})}
    given = {
        "models": {"m": {**LATENCY, **(model or {})}},
        "roles": {"user": "m", "agent": "m"},
        "grid": {"agent": [options], "seed": list(seeds)},
        "cases": {"sample": 3},
        "artifacts": {"path": str(store or folder.parent / "store"), "state_every": 0},
        "cache": "off",
        **changes,
    }
    return write_sweep(folder, **given)


def epoch_lines(folder):
    path = folder / "epochs.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def epochs(folder):
    return [(line["seed"], line["epoch"]) for line in epoch_lines(folder)]


def stored_epochs(store):
    """Of the states of unfinished fits. One may be replaced while it is looked for."""
    found = []
    for path in store.glob("*.state/*/data.json"):
        with suppress(FileNotFoundError):
            found.append(json.loads(path.read_text())["epoch"])
    return found


def store_at(folder):
    return ArtifactStore(folder / "store")


def tree_requests(out):
    return Counter(line["request"] for line in log(out) if line["step"] == "group")


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory, fork_server):
    """The sweep after a run, with the store that it has filled. Not to be changed."""
    folder = tmp_path_factory.mktemp("ran")
    return folder, run_for_several(fork_server, sweep(folder / "a"))


@pytest.fixture
def ran(ran_once, tmp_path):
    """A copy of it, as if it had taken place in `tmp_path`."""
    there, _ = ran_once
    shutil.copytree(there / "store", tmp_path / "store")
    shutil.copytree(there / "a", tmp_path / "a", ignore=lambda *_: ["out"])
    copy_run(there, tmp_path, "a/out")
    return sweep(tmp_path / "a")


def test_equal_recipes_data_seeds_models_and_prompts_make_one_artifact(tmp_path):
    path = sweep(
        tmp_path,
        grid={
            "agent": [{"name": AGENT}, {"name": AGENT, "history_turns": 2},
                      {"name": AGENT, "epochs": 4}, "zero_shot"],
            "seeds.sampling": [0, 1],
            "seeds.training": [0, 5],
        },
    )  # fmt: skip
    plan = plan_of(path)
    found = [(a.name, a.recipe.identity().get("epochs"), a.seed, len(a.cells))
             for a in plan.artifacts.values()]  # fmt: skip
    assert sorted(found, key=str) == sorted(
        [("scores", 3, s, 2) for s in (0, 5)]
        + [("scores", 4, s, 1) for s in (0, 5)]
        + [("groups", None, s, 3) for s in (0, 5)],
        key=str,
    )
    other_model = plan_of(path, "models.m.invalid_rate=0.5")
    fits = {k for k, a in plan.artifacts.items() if a.name == "scores"}
    assert fits == plan.artifacts.keys() & other_model.artifacts.keys()
    other_data = plan_of(path, "domain.items=121")
    assert not plan.artifacts.keys() & other_data.artifacts.keys()
    prompts = shutil.copytree(ROOT / "tests/prepared_agent/prompts", tmp_path / "prompts")
    (prompts / "group.md.j2").write_text("{{ noun }} {{ items | titles }} {{ reply_form }} now")
    grid = {"agent": [{"name": AGENT, "prompts": str(prompts)}], "seeds.training": [0, 5]}
    other_words = plan_of(sweep(tmp_path, grid=grid))
    assert plan.artifacts.keys() & other_words.artifacts.keys() == {
        k for k in fits if plan.artifacts[k].recipe.identity()["epochs"] == 3
    }
    assert artifact_task("k", 0, "groups", 0).id == "k"


def test_plan_says_what_must_be_made_and_makes_nothing(tmp_path, crsweep):
    planned = crsweep("plan", sweep(tmp_path / "a")).stdout
    assert (
        "fit: popularity on synthetic, seed 0: to make, from a domain of 480 interactions; "
        "time unknown: there is no earlier fit to estimate from\n"
    ) in planned
    assert "model_calls: groups of tests.prepared_agent by m on synthetic, seed 1: to make, " in (
        planned
    )
    assert "about 6 calls" in planned
    assert not (tmp_path / "store").exists()
    assert not epochs(tmp_path / "a")[6:]


def test_what_is_missing_is_made_first_and_the_second_sweep_makes_nothing(
    ran, ran_once, tmp_path, crsweep
):
    path, out, (_, said) = ran, tmp_path / "a" / "out", ran_once
    assert "4 of 4 artifacts must be made" in said
    assert "popularity on synthetic, seed 1: ready after" in said
    episodes = raw(out, "episodes")
    assert len(episodes) == 6
    assert set(episodes.status) == {"done"}
    plan = plan_of(path)
    keys = plan.cells[0].artifacts(plan.cells[0].seeds[0])
    digests = {name: store_at(tmp_path).about(key).digest for name, key in keys.items()}
    assert all(row == digests for row in episodes[episodes.seed == 0]["artifacts"])
    assert len({row["groups"] for row in episodes["artifacts"]}) == 2
    status = crsweep("status", out).stdout
    assert f"artifacts: 4 of 4 ready, in {tmp_path / 'store'}" in status
    first = len(epochs(tmp_path / "a"))
    again = crsweep("run", sweep(tmp_path / "b", name="b.yaml")).stdout
    assert "must be made" not in again
    assert not epochs(tmp_path / "b")
    assert not tree_requests(tmp_path / "b" / "out")
    assert len(epochs(tmp_path / "a")) == first
    assert outcomes(out) == outcomes(tmp_path / "b" / "out")
    assert "seed 0: ready" in crsweep("plan", path).stdout


def test_plan_estimates_the_tokens_of_what_models_write_and_counts_them_in(ran, tmp_path, crsweep):
    path = sweep(tmp_path / "c", store=tmp_path / "empty")
    without = sweep(tmp_path / "b", agent={"uses": "none"})
    dialogues = json.loads(crsweep("plan", without, "--json").stdout)["estimate"]
    assert dialogues["prepare"] == {"calls": 0, "input_tokens": 0, "output_tokens": 0}
    planned = json.loads(crsweep("plan", path, "--json").stdout)
    groups = [found for found in planned["artifacts"] if found["kind"] == "model_calls"]
    estimate, text = planned["estimate"], crsweep("plan", path).stdout
    for name in ("calls", "input_tokens", "output_tokens"):
        assert groups[0][name] > 0
        assert estimate["prepare"][name] == 2 * groups[0][name]
        assert estimate[name] > estimate["prepare"][name]
    assert estimate["calls"] - 12 == dialogues["calls"]  # the dialogues are the same
    one = f"{groups[0]['input_tokens']:,} input and {groups[0]['output_tokens']:,} output tokens"
    assert f"about 6 calls, {one} (from a rehearsal with the rules backend)" in text
    assert f"about {estimate['calls']:,} calls, {estimate['input_tokens']:,} input and " in text
    assert "of which preparation: about 12 calls, " in text
    made = crsweep("plan", ran, "--json").stdout
    assert json.loads(made)["estimate"]["prepare"]["calls"] == 0
    assert "to prepare" not in crsweep("plan", ran).stdout


def test_estimated_prompt_tokens_are_those_of_the_real_prompts(tmp_path, crsweep):
    path = sweep(tmp_path / "a", agent={"uses": "calls"})
    planned = json.loads(crsweep("plan", path, "--json").stdout)["artifacts"]
    crsweep("prepare", path)
    for found in planned:
        calls = store_at(tmp_path).calls(found["key"])
        assert sum(row["input_tokens"] for row in calls) == found["input_tokens"]


def test_plan_shows_what_earlier_fits_under_other_seeds_took(tmp_path, crsweep):
    path = sweep(tmp_path / "a", agent={"uses": "fit", "seconds": 0.7})
    crsweep("prepare", path, "grid.seed=[5]")
    planned = crsweep("plan", path).stdout
    one = r"seed 1: to make, from a domain of 480 interactions; under seed 5 it took \d+s\n"
    assert re.search(one, planned)
    crsweep("prepare", path, "grid.seed=[0]")
    planned = crsweep("plan", path).stdout
    assert "seed 0: ready\n" in planned
    assert re.search(r"interactions; under 2 other seeds it took \d+s to \d+s\n", planned)
    [_, found] = json.loads(crsweep("plan", path, "--json").stdout)["artifacts"]
    assert [(fit["seed"], fit["seconds"] >= 2.1) for fit in found["earlier"]] == [
        (0, True), (5, True)]  # fmt: skip
    assert "time unknown" in crsweep("plan", path, "domain.items=121").stdout


def test_plan_counts_nothing_for_artifacts_that_no_episode_needs_any_more(ran, tmp_path, crsweep):
    shutil.rmtree(tmp_path / "store")
    planned = crsweep("plan", ran, "grid.seed=[0, 1, 2]").stdout
    assert planned.count("to make, but no episode that is left needs it") == 4
    assert "of which preparation: about 6 calls, " in planned


def test_the_calls_that_made_an_artifact_lie_next_to_it_and_count_as_paid(ran, tmp_path):
    path, out = ran, tmp_path / "a" / "out"
    for key, artifact in plan_of(path).artifacts.items():
        about = store_at(tmp_path).about(key)
        assert about.seed == artifact.seed
        if artifact.name == "groups":
            calls = pq.read_table(store_at(tmp_path).folder / key / "calls.parquet").to_pandas()
            assert set(calls.role) == {"agent.tree"}
            assert about.calls == len(calls) == 6
            assert about.tokens == calls[["input_tokens", "output_tokens"]].sum().sum()
    assert set(tree_requests(out).values()) == {1}
    calls = raw(out, "calls")
    assert "group" not in set(calls.step)
    manifest = json.loads((out / "manifest.json").read_text())
    paid = sum(manifest["runs"][-1]["tokens"]["m"])
    assert paid > calls[["input_tokens", "output_tokens"]].sum().sum()


def test_prepare_makes_them_alone_and_the_run_after_it_makes_nothing(tmp_path, crsweep):
    path, out = sweep(tmp_path / "a"), tmp_path / "a" / "out"
    said = crsweep("prepare", path).stdout
    assert "0 episodes" in said
    assert not (out / "episodes").exists()
    asked = tree_requests(out)
    assert "nothing to prepare: all 4 artifacts are ready" in crsweep("prepare", path).stdout
    assert "must be made" not in crsweep("run", path).stdout
    assert tree_requests(out) == asked
    assert Counter(epochs(tmp_path / "a")) == {(s, e): 1 for s in (0, 1) for e in (1, 2, 3)}
    assert len(outcomes(out)) == 6


def test_cells_whose_artifact_fails_are_not_run_and_all_others_are(tmp_path, crsweep):
    agents = [{"name": AGENT, "fault": "raises", "log": str(tmp_path / "l")}, "zero_shot"]
    path = sweep(tmp_path / "a", grid={"agent": agents, "seed": [0, 1]})
    said = crsweep("run", path, check=3).stdout
    assert (
        "popularity on synthetic, seed 1: cannot be prepared: AgentError: RuntimeError: a " in said
    )
    assert "groups of tests.prepared_agent by m on synthetic, seed 0: cannot be prepared" in said
    assert "incomplete: 6 of 12 episodes left" in said
    assert len(raw(tmp_path / "a" / "out", "episodes")) == 6
    # The table has the numbers of the other cell, and says with `status` what could not be made.
    out = tmp_path / "a" / "out"
    rows = csv.DictReader(io.StringIO(crsweep("table", out, "--format", "csv").stdout))
    assert [row["sr@1_n"] for row in rows] == ["0", "6"]
    for shown in (crsweep("table", out), crsweep("status", out)):
        assert "popularity on synthetic, seed 1 cannot be prepared: AgentError: " in shown.stdout
    repaired = crsweep("run", sweep(tmp_path / "a", grid={"agent": [{"name": AGENT}, "zero_shot"],
                                                         "seed": [0, 1]}))  # fmt: skip
    assert "6 done, 6 to run" in repaired.stdout
    assert len(outcomes(tmp_path / "a" / "out")) == 12


def test_a_fit_whose_process_dies_resumes_from_its_state_and_its_seconds_are_those_of_all_epochs(
    tmp_path, crsweep
):
    options = {"uses": "fit", "epochs": 4, "seconds": 0.2, "fault": "dies"}
    path = sweep(tmp_path / "a", agent=options, seeds=[0])
    crsweep("run", path)
    assert epochs(tmp_path / "a") == [(0, 1), (0, 2), (0, 2), (0, 3), (0, 4)]
    assert not list((tmp_path / "store").glob("*.state"))
    [key] = plan_of(path).artifacts
    assert 4 * 0.2 <= store_at(tmp_path).about(key).seconds < 60


def test_a_package_that_training_needs_is_named_before_anything_starts(tmp_path, crsweep):
    path = sweep(tmp_path / "a", agent={"fault": "package"})
    for command in ("run", "prepare"):
        refused = crsweep(command, path, check=2)
        assert refused.stderr.count("\n") == 1
        assert "popularity on synthetic, seed 0 needs the package 'no_such_package'" in (
            refused.stderr
        )
        assert "crsweep[train]" in refused.stderr
    assert not tree_requests(tmp_path / "a" / "out")
    assert "artifacts: popularity" in crsweep("doctor", path, check=2).stdout


def test_damage_is_named_and_made_again_and_a_change_is_refused_unless_accepted(tmp_path, crsweep):
    path, out = sweep(tmp_path / "a", agent={"uses": "fit"}, seeds=[0]), tmp_path / "a" / "out"
    crsweep("run", path)
    [key] = plan_of(path).artifacts
    about = store_at(tmp_path).folder / key / "artifact.json"
    whole = about.read_text()
    about.write_text("{")  # what no episode needs any more is not looked at
    assert "nothing to do" in crsweep("run", path).stdout
    about.write_text(whole)
    data = store_at(tmp_path).folder / key / "data.json"
    data.write_text('{"noise": 1}')
    grown = crsweep("run", path, "cases.sample=4").stdout
    assert f"{key} is damaged: its content has the digest" in grown
    assert "popularity on synthetic, seed 0 is made again" in grown
    assert len(outcomes(out)) == 4
    shutil.rmtree(store_at(tmp_path).folder / key)
    noisy = sweep(
        tmp_path / "a", agent={"uses": "fit", "fault": "noise"}, seeds=[0], cases={"sample": 5}
    )
    for _ in range(2):
        refused = crsweep("run", noisy, check=2).stderr
        assert refused.count("\n") == 1
        assert "popularity on synthetic, seed 0 has changed since episodes in" in refused
        assert "--accept-artifact-change" in refused
        now = store_at(tmp_path).about(key).digest
        then = set(raw(out, "episodes")["artifacts"].map(lambda a: a["scores"]))
        assert now in refused
        assert then == {refused.split("with the digest ")[1].split(",")[0]}
    crsweep("run", noisy, "--accept-artifact-change")
    assert len(outcomes(out)) == 5


def test_rehearsals_and_play_use_stand_ins_and_say_so(ran, tmp_path, crsweep):
    path = sweep(tmp_path / "c", store=tmp_path / "empty")
    rendered = crsweep("render", path).stdout
    assert "agent.tree · group" in rendered
    assert "Name one group that these games belong to" in rendered
    played = crsweep("play", path).stdout
    assert "popularity on synthetic, seed 0 is not prepared, so this dialogue uses" in played
    assert "groups of tests.prepared_agent by m on synthetic, seed 0 is not prepared" in played
    assert not (tmp_path / "empty").exists()
    assert "ok    artifacts: 4, 4 to make" in crsweep("doctor", path).stdout
    assert "is not prepared" not in crsweep("play", ran).stdout
    assert "Name one group that these games belong to" in crsweep("render", ran).stdout
    listed = json.loads(crsweep("plan", ran, "--json").stdout)["artifacts"]
    assert [(a["kind"], a["state"]) for a in listed] == [
        ("fit", "ready"), ("model_calls", "ready")] * 2  # fmt: skip


def training_curves(out):
    rows = Results.open(out).query("SELECT artifact, seed, step, value FROM curves ORDER BY ALL")
    return rows.fetchall()


LOCAL = {"executor": "local", "concurrency": 4}
RAY = {"executor": "ray", "concurrency": 8, "episode_workers": 2}


@pytest.mark.parametrize(
    ("run", "how"),
    [
        (LOCAL, signal.SIGKILL),
        (LOCAL, signal.SIGINT),
        pytest.param(RAY, signal.SIGKILL, marks=pytest.mark.ray),
    ],
)
def test_a_fit_whose_driver_died_resumes_from_the_last_state(tmp_path, crsweep, run, how, start):
    folder = tmp_path / "a"
    options = {"uses": "fit", "epochs": 30}
    path = sweep(folder, agent={**options, "stuck": 8}, seeds=[0], run=run)
    process = start(path)
    wait_for(
        lambda: 7 in stored_epochs(tmp_path / "store"),
        process,
        "a fit that is stuck after 7 epochs",
    )
    fits = {line["pid"] for line in epoch_lines(folder)}
    process.send_signal(how)
    end_of(process)
    assert_gone(each for each in psutil.process_iter() if each.pid in fits)
    quick = sweep(folder, agent=options, seeds=[0], run=run)
    crsweep("run", quick)
    counts = Counter(epochs(folder))
    assert counts.keys() == {(0, e) for e in range(1, 31)}
    assert sum(counts.values()) - 30 <= 4  # the state may be an epoch or two behind
    other = sweep(tmp_path / "b", agent=options, seeds=[0], store=tmp_path / "other")
    crsweep("prepare", other)  # without Ray
    stores = [ArtifactStore(tmp_path / name) for name in ("store", "other")]
    for key in plan_of(path).artifacts:
        assert stores[0].about(key).digest == stores[1].about(key).digest
    # The curve has each epoch once, whatever was computed twice, and is in the folder.
    undisturbed = training_curves(tmp_path / "b" / "out")
    assert [row[2] for row in undisturbed] == [*range(1, 31)]
    assert training_curves(tmp_path / "a" / "out") == undisturbed
    assert not list((tmp_path / "store").glob("*.state"))


@pytest.mark.parametrize("run", [LOCAL, pytest.param(RAY, marks=pytest.mark.ray)])
def test_after_sigkill_in_mid_calls_nothing_that_was_answered_is_paid_again(
    tmp_path, crsweep, run, start
):
    options = {"uses": "calls", "batches": 60}
    path = sweep(tmp_path / "a", agent=options, run=run, model={"latency_ms": 150})
    out = tmp_path / "a" / "out"
    process = start(path)
    wait_for(lambda: sum(tree_requests(out).values()) >= 24, process, "calls")
    kill(process)
    asked = tree_requests(out)
    assert len(asked) < 120
    said = crsweep("run", path).stdout
    assert " replayed from the sweep's journal)" in said
    again = sum(tree_requests(out).values()) - len(tree_requests(out))
    assert again <= 8  # those in flight: 4 of each of two artifacts
    assert len(tree_requests(out)) == 120
    assert len(outcomes(out)) == 6
    status = crsweep("sql", out, "SELECT DISTINCT map_keys(artifacts) FROM episodes").stdout
    assert "groups" in status


def test_two_sweeps_that_make_the_same_at_once_do_not_harm_each_other(tmp_path, crsweep, start):
    paths = [sweep(tmp_path / name, agent={"seconds": 0.2}, seeds=[0]) for name in "ab"]
    processes = [start(path) for path in paths]
    for process in processes:
        text = end_of(process)
        assert process.returncode == 0, text
    assert outcomes(tmp_path / "a" / "out") == outcomes(tmp_path / "b" / "out")
    for key in plan_of(paths[0]).artifacts:
        assert store_at(tmp_path).find(key) is not None


CONSOLE = """
import sys
from runner.entry import main
if __name__ == "__main__":
    sys.argv[0] = "crsweep"
    main()
"""


def test_a_console_script_fits_in_a_process_of_its_own_too(tmp_path):
    script = tmp_path / "crsweep"
    script.write_text(CONSOLE)
    path = sweep(tmp_path / "a", agent={"uses": "fit"}, seeds=[0])
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, str(script), "run", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        _, said = process.communicate(timeout=LAST_GUARD_SECONDS)
    assert process.returncode == 0, said
    [pid] = {line["pid"] for line in epoch_lines(tmp_path / "a")}
    assert pid != process.pid
