"""Caps and early stops of whole sweeps."""

import io
import json
import sys

import pytest
from rich.console import Console

from agents.core.errors import UsageError
from analysis.results import Results
from runner.commands.status import show_status
from runner.driver.budget import Budget, budget_in, paid
from runner.driver.loading import load_plan
from sweeps.schema import Caps, Price
from tests.analysis.builder import Built, grid_of
from tests.runner.driver.test_failures import moody_sweep
from tests.runner.reading import raw
from tests.sweep_files import BASE, write_sweep
from workers.core.usage import Usage

LATENCY = {name: {"backend": "latency", "latency_ms": 50} for name in ("strong", "weak")}


def priced(models, **price):
    return {name: {**model, "price": price} for name, model in models.items()}


def tokens(out) -> int:
    calls = raw(out, "calls")
    calls = calls[~calls.cached]
    return int(calls.input_tokens.sum() + calls.output_tokens.sum())


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_cap_of_tokens_holds_over_all_runs_of_a_folder(tmp_path, crsweep, executor):
    cap, out = 40_000, tmp_path / "out"
    run = {"executor": executor, "concurrency": 8, "episode_workers": 2}
    models = {name: {"backend": "latency", "latency_ms": 300} for name in LATENCY}
    cache = {"path": str(tmp_path / "cache")}  # of this test alone: cached replies are free
    given = {"models": models, "run": run, "cache": cache, "cases": {"sample": 60}}
    path = write_sweep(tmp_path, **given)
    first = crsweep("run", path, f"caps.tokens={cap}", check=3).stdout
    assert "stopping: caps.tokens is reached" in first
    assert "stopped early: caps.tokens is reached" in first
    used = first.split("caps: tokens ")[1].split(" of ")[0].replace(",", "")
    way_on = f"{path} caps.tokens=MORE_THAN_{used}\n"
    assert f"to resume, with a higher cap: {sys.executable} -m runner run {way_on}" in first
    [entry] = json.loads((out / "manifest.json").read_text())["runs"]
    seen = sum(map(sum, entry["tokens"].values()))
    calls = raw(out, "calls")
    # 8 dialogues, a call each 300 ms, until a report that may be 3 s late, and what was in flight
    most = (calls.input_tokens + calls.output_tokens).max()
    assert cap <= seen <= cap + 8 * (3 / 0.3 + 1) * most
    assert 0 < tokens(out) < seen  # what was broken off is paid for and not committed
    assert set(raw(out, "episodes").status) == {"done"}
    status = crsweep("status", out).stdout
    assert f"caps: tokens {seen:,} of 40,000" in status
    assert "the last run was stopped: caps.tokens is reached" in status
    given["run"] = {**run, "executor": "local"}
    write_sweep(tmp_path, **given)  # what the first run has used counts wherever it continues
    again = crsweep("run", path, f"caps.tokens={cap}", check=3).stdout
    assert f"no episodes were started: caps.tokens is reached: {seen:,} of 40,000" in again
    assert way_on in again
    unread = crsweep("run", path, f"caps.tokens=MORE_THAN_{used}", check=2).stderr
    assert "caps.tokens" in unread
    assert unread.count("\n") == 1
    plan = json.loads(crsweep("plan", path, "--json", f"caps.tokens={cap}").stdout)
    assert plan["caps"] == {"tokens": {"used": seen, "cap": cap}}
    assert f"caps: tokens {seen:,} of 60,000" in crsweep("plan", path, "caps.tokens=60000").stdout
    on = crsweep("run", path, "caps.tokens=60000", check=3).stdout
    assert "caps.tokens is reached" in on
    entries = json.loads((out / "manifest.json").read_text())["runs"]
    assert [e["driver_epoch"] for e in entries] == [1, 3]
    total = sum(sum(map(sum, e["tokens"].values())) for e in entries)
    assert 60_000 <= total <= 60_000 + 8 * (3 / 0.3 + 1) * most
    assert total == sum(used.tokens for used in paid(Results.open(out)).values())


def test_a_cap_of_cost_is_counted_by_price_and_a_finished_sweep_is_complete(tmp_path, crsweep):
    out = tmp_path / "out"
    models = {"strong": {**BASE["models"]["strong"], "price": {"input": 2, "output": 8}},
              "weak": {**BASE["models"]["weak"], "price": {"input": 0, "output": 0}}}  # fmt: skip
    path = write_sweep(tmp_path, models=models, caps={"cost": 100})
    done = crsweep("run", path).stdout
    calls = raw(out, "calls")
    strong = calls[calls.model == "strong"]
    cost = (2 * strong.input_tokens.sum() + 8 * strong.output_tokens.sum()) / 1e6
    assert f"caps: cost {cost:,.4f}".rstrip("0") in done
    assert "of 100" in done
    assert f"caps: cost {cost:,.4f}".rstrip("0") in crsweep("status", out).stdout
    # A cap that is reached stops nothing where nothing is left to run.
    assert "nothing to do" in crsweep("run", path, "caps.cost=0.0001").stdout


def test_the_overrides_to_resume_name_every_reached_cap():
    used = {"m": Usage(700, 500)}
    caps = Caps(tokens=1000, cost=0.5, gpu_hours=2)
    budget = Budget(caps, {"m": Price(input=1000, output=1000)}, used, gpu_seconds_before=3600)
    assert budget.needs() == ["caps.tokens=MORE_THAN_1200", "caps.cost=MORE_THAN_1.2"]
    budget.now = {"m": Usage(0, 0, uncounted=10)}
    assert budget.needs() == ["caps.tokens=null", "caps.cost=null"]
    assert not Budget(Caps(tokens=5000), {}, used).needs()


def refused(path, *overrides) -> str:
    with pytest.raises(UsageError) as error:
        load_plan(path, overrides)
    return error.value.message


def test_a_cap_of_cost_needs_the_price_of_every_model_that_is_used(tmp_path):
    models = priced(BASE["models"], input=1, output=2)
    del models["weak"]["price"]
    path = write_sweep(tmp_path, models=models, caps={"cost": 5})
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "weak:" in text)
    message = refused(path)
    assert message.startswith(f"{path}:{line}: models.weak: caps.cost needs the price of every")
    assert "expected price: {input: ..., output: ...}" in message
    load_plan(path, ["grid.roles.agent=[strong]"])  # no role uses it
    load_plan(path, ["caps.cost=null"])


def test_a_model_of_earlier_runs_needs_its_price_too(ran, tmp_path, crsweep):
    other = {"other": priced(BASE["models"], input=1, output=2)["strong"]}
    path = write_sweep(
        tmp_path, models=other, roles={"user": "other", "agent": "other"},
        grid={"agent": ["zero_shot"], "seed": [7]}, caps={"cost": 5},
    )  # fmt: skip
    message = crsweep("run", path, check=2).stderr
    assert "tokens of the model 'strong', which has no price here" in message
    assert f"{path}:" in message


def test_one_name_has_one_price(tmp_path):
    one = {"backend": "rules", "skill": 0.5, "price": {"input": 1, "output": 2}}
    axis = [one, {**one, "skill": 0.7, "price": {"input": 1, "output": 3}}]
    grid = {"agent": ["zero_shot"], "roles.agent": ["weak"], "models.weak": axis}
    assert "has different prices in different cells" in refused(write_sweep(tmp_path, grid=grid))


def test_gpu_hours_of_a_local_run_are_not_counted_and_so_not_capped(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    models = {"strong": {"backend": "vllm", "model": str(tmp_path / "model")}}
    path = write_sweep(
        tmp_path, models=models, roles={"user": "strong", "agent": "strong"},
        grid={"agent": ["zero_shot"]}, caps={"gpu_hours": 2},
    )  # fmt: skip
    message = refused(path)
    assert "caps.gpu_hours: cannot be enforced with run.executor: local" in message
    assert "expected run.executor: ray" in message


def test_paid_takes_of_each_run_what_is_larger_the_records_or_what_its_driver_saw(
    ran,
):
    out = ran.out
    before = paid(Results.open(out))
    manifest = json.loads((out / "manifest.json").read_text())
    [entry] = manifest["runs"]
    assert {m: Usage(*counts) for m, counts in entry["tokens"].items()} == before
    entry["tokens"]["strong"] = [10**9, 1]  # as if much had been broken off
    entry["tokens"]["weak"] = [0, 0]  # as if the driver had been killed
    manifest["runs"].append({**entry, "driver_epoch": 2, "tokens": {"new": [3, 4]}})
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert paid(Results.open(out)) == {
        "strong": Usage(10**9, before["strong"].output),
        "weak": before["weak"],
        "new": Usage(3, 4),
    }


def test_too_many_failures_of_one_cause_stop_a_run_and_the_next_one_continues(tmp_path, crsweep):
    path, env, mood = moody_sweep(tmp_path, models=LATENCY, cache={"path": str(tmp_path / "cache")})
    out = tmp_path / "out"
    words = ("max_failed=0.2", "cases.sample=60", "run.concurrency=4")
    mood.write_text("crash")
    slow = "models.strong.latency_ms=500"
    first = crsweep("run", path, *words, slow, check=3, **env).stdout
    assert "started episodes failed with AgentError, blame agent: more than max_failed 0.2" in first
    assert "for example: " in first
    failed = raw(out, "episodes")
    assert 10 <= len(failed) < 60
    assert "the last run was stopped: " in crsweep("status", out).stdout
    mood.write_text("")
    second = crsweep("run", path, *words, **env).stdout  # what failed remains, and is not counted
    assert f"{60 - len(failed)} to run" in second
    third = crsweep("run", path, *words, "--retry", "agent", **env).stdout
    assert f"{len(failed)} to run" in third
    episodes = raw(out, "episodes")
    assert len(episodes[episodes.status == "done"]) == 60


def test_impossible_counts_of_an_old_folder_make_lower_bounds_of_what_was_paid(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
    old = {"input_tokens": -40, "output_tokens": 13}
    none = {"input_tokens": None, "output_tokens": None}
    large = {"input_tokens": 2**31 - 1, "output_tokens": 0}
    calls = [old, large, {}, none, {**none, "finish_reason": None}]
    built.episode(built.cells[0], "u0", 0, calls=calls, agent_tokens=-27)
    entry = {"driver_epoch": 1, "started": 0.0, "tokens": {"strong": [-30, 18]}}
    folder = built.write(tmp_path, runs=[{**entry, "caps": {"tokens": 100, "gpu_hours": 2}}])
    results = Results.open(folder)
    assert paid(results) == {"strong": Usage(10, 18, 3)}
    budget = budget_in(results)
    assert budget is not None
    assert budget.line() == "caps: tokens at least 28 of 100, GPU hours 0 of 2"
    console = Console(file=io.StringIO(), width=200)
    show_status(str(folder), console)
    status = console.file.getvalue()  # type: ignore[attr-defined]
    assert "tokens (at least): agent 0, user 50, probes 0" in status
    assert "3 replies without token counts" in status
