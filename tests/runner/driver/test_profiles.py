"""From the official files of a category to Table 3: profiles, dialogues, and the figures."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from agents.core.errors import UsageError
from analysis.figures.draw import draw
from analysis.results import Results
from analysis.statistics.defined_tables import figure_named
from runner.annotation.export import write_form
from runner.core.titles import all_titles
from runner.driver.loading import load_plan_of
from simulators.core.profiles import GROUPS
from tests.conftest import ROOT
from tests.fixtures_amazon_2023 import (
    price_of,
    product,
    profiles_of,
    rows,
    write_amazon_2023,
    write_profiles,
)
from tests.runner.reading import raw
from tests.sweep_files import plan_of, write_sweep

REVIEWS = rows(users=60)
RULES = {"backend": "rules", "skill": 0.5}


def sweep(folder, **changes):
    folder.mkdir(exist_ok=True)
    data = folder.parent / "data"
    if not data.exists():
        write_amazon_2023(data, REVIEWS)
    given = {
        "domain": {"name": "amazon_2023", "path": str(data)},
        "simulator": "csuser",
        "cases": {"sample": 4, "by": ["openness", "style"]},
        "models": {"m": RULES},
        "roles": {"user": "m", "agent": "m"},
        "limits": {"max_turns": 4, "shown_items": 3},
        "grid": {"agent": ["csi", "chatcrs_sales"], "seed": [0, 1]},
        "metrics": ["sr@4", "swr", "at_success_only"],
        "artifacts": {"path": str(folder.parent / "store")},
        **changes,
    }
    return write_sweep(folder, **given)


def stored(store):
    [path] = store.glob("*/data.json")
    return json.loads(path.read_text())


def table(crsweep, out, *words):
    text = crsweep("table", out, "--format", "csv", *words).stdout
    return list(csv.DictReader(io.StringIO(text)))


def test_one_command_leads_from_raw_files_to_the_table(tmp_path, crsweep):
    path, out = sweep(tmp_path / "a"), tmp_path / "a" / "out"
    planned = crsweep("plan", path).stdout
    assert "2 cells: cases pending" in planned
    # Of Clothing, the paper's counts are known and those of its authors' release.
    [counts] = [line for line in planned.splitlines() if "CSI, Table 2" in line]
    assert "60 users" in counts and "release has 2,754 users" in counts and "2,195 users" in counts
    [why] = [line for line in planned.splitlines() if "A.2 does not say" in line]
    assert "core_again" in why and "min_targets" in why
    assert "profiles of csuser by m on amazon_2023, seed 0: to make, about 180 calls" in planned
    assert plan_of(path).episodes == 0
    said = crsweep("run", path).stdout
    assert said.count("ready after") == 1 and "180 calls" in said
    profiles = stored(tmp_path / "store")["profiles"]
    assert len(profiles) == 60
    episodes, turns = raw(out, "episodes"), raw(out, "turns")
    episodes["agent"] = [axes["agent"] for axes in episodes["axes"]]
    assert {len(digest) for used in episodes.artifacts for digest in used.values()} == {32}
    cases = raw(out, "cases").set_index("case_id").groups
    for kind, groups in GROUPS.items():
        for group in groups:
            drawn = [case for case, own in cases.items() if group in own]
            assert len(drawn) == 4
            assert {profiles[case[1:]][kind] for case in drawn} == {group}
    assert len(episodes) == 2 * 2 * len(cases) and set(episodes.status) == {"done"}

    # Independently: budgets from the raw reviews, prices from the raw products.
    bought = pd.DataFrame(REVIEWS).drop_duplicates(["user", "item"]).sort_values(["user", "day"])
    budgets = {}
    for user, own in bought.groupby("user"):
        path_of_latest = product(own["item"].iloc[-1])["categories"]
        targets = [i for i in own["item"] if product(i)["categories"] == path_of_latest]
        budgets[f"u{user}"] = max(map(price_of, targets))
    accepted = episodes.accepted_item.notna()
    assert (accepted == episodes.success).all()
    episodes["over"] = [
        price_of(item) > budgets[case] if isinstance(item, str) else None
        for item, case in zip(episodes.accepted_item, episodes.case_id, strict=True)
    ]
    assert 0 < accepted.mean() < 1
    groups = ["Active", "Neutral", "Passive", "Rational", "Dependent", "Intuitive"]
    found = table(crsweep, out, "--by", "openness", "--by", "style")
    assert {row["agent"] for row in found} == {"csi", "chatcrs_sales"}
    for row in found:
        mine = episodes[episodes.agent == row["agent"]]
        expected = {name: [] for name in ("sr@4", "swr", "at_success_only")}
        for group in groups:
            drawn = mine.loc[mine.case_id.map(lambda case, own=group: own in cases[case])]
            yes = drawn.dropna(subset=["accepted_item"])
            yes = yes.assign(over=[float(over) for over in yes["over"]])
            expected["sr@4"].append(drawn.groupby("seed").success.mean().mean())
            expected["swr"].append(yes.groupby("seed").over.mean().mean())
            expected["at_success_only"].append(yes.groupby("seed").turns.mean().mean())
        for name, values in expected.items():
            printed = [float(row[f"{name}[{group}]"]) for group in groups]
            assert printed == pytest.approx(values, nan_ok=True)
    assert float(found[0]["sr@4[overall_macro]"]) > 0
    assert not turns.agent_text.str.contains("expected price range").any()
    # Who reads the dialogues sees the items' titles.
    titles, problems = all_titles(Results.open(out).manifest)
    assert problems == []
    assert [len(found) for found in titles.values()] == [45]


def test_another_sweep_uses_the_same_profiles_and_another_model_writes_its_own(tmp_path, crsweep):
    small = {"grid": {"agent": ["csi"], "seed": [0]}, "cases": {"sample": 2}}
    first = sweep(tmp_path / "a", **small)
    assert "180 calls" in crsweep("prepare", first).stdout
    again = sweep(tmp_path / "b", **small)
    assert "pending" not in crsweep("plan", again).stdout
    assert "ready after" not in crsweep("run", again).stdout
    other = crsweep("plan", first, "models.m.skill=0.4").stdout
    assert "cases pending" in other and "to make, about 180 calls" in other
    # A file of profiles needs no model.
    users = sorted({row.user for row in REVIEWS})
    file = write_profiles(tmp_path / "profiles.jsonl", profiles_of(users))
    assert "pending" not in crsweep("plan", first, f"domain.profiles={file}").stdout


def test_people_who_decide_see_the_profiles_that_a_model_wrote(tmp_path, crsweep):
    path = sweep(
        tmp_path / "a", grid={"agent": ["chatcrs_sales"], "seed": [0]}, cases={"sample": 6}
    )
    crsweep("run", path)
    out, forms = tmp_path / "a" / "out", tmp_path / "forms"
    words = ("annotate", "export", out, "--decisions", "--cases", 6, "--out", forms)
    crsweep(*words)
    (sheet,) = forms.glob("*.csv")
    rows = list(csv.DictReader(io.StringIO(sheet.read_text("utf-8-sig"), newline="")))
    needs = {one["target_needs"] for one in stored(tmp_path / "store")["profiles"].values()}
    assert rows
    for row in rows:
        [said] = [line for line in row["Profile"].splitlines() if line.startswith("What you need")]
        assert said.removeprefix("What you need now: ") in needs
    plan = load_plan_of(str(out), [])
    written = plan.sources[0].written
    assert written is not None
    plan.sources = [replace(plan.sources[0], written=written._replace(digest="0" * 32))]
    given = {"pairs": None, "judge": None, "where": None, "cases": 6, "seed": 0}
    with pytest.raises(UsageError, match="played with other profiles than those in"):
        write_form(plan, **given, out=forms, decisions=True)
    shutil.rmtree(tmp_path / "store")
    assert "`crsweep prepare` writes them again" in crsweep(*words, check=2).stderr


def test_profiles_that_cannot_be_written_leave_the_run_incomplete(tmp_path, crsweep):
    models = {"m": RULES, "w": {"backend": "latency", "latency_ms": 0, "invalid_rate": 1}}
    path = sweep(
        tmp_path / "a",
        models=models,
        roles={"user": "m", "agent": "m", "user.profiler": "w"},
        domain={"name": "amazon_2023", "path": str(tmp_path / "data"), "profile_users": 4},
        cache="off",
    )
    done = crsweep("run", path, check=3)
    assert "cannot be prepared: ReplyInvalid: no profile could be written" in done.stdout
    assert "1 of 1 artifact left" in done.stdout or "incomplete" in done.stdout
    assert not list((tmp_path / "store").glob("*/data.json"))


def test_the_papers_sweep_leads_from_60_users_to_its_table_in_one_command(
    tmp_path, crsweep, monkeypatch
):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_amazon_2023(tmp_path / "amazon-2023", REVIEWS)
    folder, out = ROOT / "sweeps" / "csi", tmp_path / "out"
    given = [folder / "table3.yaml", folder / "laptop.yaml", f"out={out}", "run.executor=local"]
    said = crsweep("run", *given, f"artifacts.path={tmp_path / 'store'}").stdout
    assert "profiles of csuser by writer on amazon_2023, seed 0: ready after" in said
    assert "(0 failed)" in said
    found = table(crsweep, out, "--by", "openness", "--by", "style")
    assert len(found) == 5
    for row in found:
        for groups in GROUPS.values():
            for group in groups:
                assert row[f"sr@10[{group}]_n"] == str(5 * 2)
        assert float(row["sr@10[overall_macro]"]) > 0
        assert 0 <= float(row["swr[overall_macro]"]) <= 1
    # By the rules too, CSI does everything that it can do, and sells within and above budgets.
    episodes, turns = raw(out, "episodes"), raw(out, "turns")
    csi = episodes[episodes["axes"].map(lambda axes: axes["agent"]) == "csi(retriever=lexical)"]
    own = turns[turns.attempt_id.isin(csi.attempt_id) & (turns.turn > 0)]
    asked = {"preference_probing", "category_narrowing", "item_suggestion"}
    assert asked < set(own.strategy)
    assert "persuade" in set(own.action)
    bought = own[own.user_decision == "accept"].user_extra.map(json.loads)
    assert {extra["over_budget"] for extra in bought} == {True, False}


def test_the_figure_of_actions_has_all_four_for_each_openness(tmp_path, crsweep, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_amazon_2023(tmp_path / "amazon-2023", REVIEWS)
    folder, out = ROOT / "sweeps" / "csi", tmp_path / "out"
    given = [folder / "fig7_actions.yaml", folder / "laptop.yaml", f"out={out}"]
    local = ["run.executor=local", f"artifacts.path={tmp_path / 'store'}"]
    crsweep("run", *given, *local, "models.rules.skill=0.1")  # long dialogues, with persuasion
    crsweep("plot", out, "actions", "--out", tmp_path / "actions.svg")
    results = Results.open(out)
    panels = draw(results, figure_named(results, "actions")).figure.axes
    assert [axes.get_title() for axes in panels] == [*GROUPS["openness"], "all users"]
    four = ["preference_probing", "category_narrowing", "item_suggestion", "persuade"]
    for axes in panels:
        assert [bars.get_label() for bars in axes.containers] == four  # and no "other"
        assert [len(bars) for bars in axes.containers] == [5] * 4
    assert all(any(bar.get_height() for bar in bars) for bars in panels[-1].containers)


def test_a_sample_that_no_groups_can_fill_is_refused_before_profiles_are_written(tmp_path):
    path = sweep(tmp_path / "a", cases={"sample": 21, "by": ["style"]})
    with pytest.raises(UsageError) as caught:
        plan_of(path)
    assert str(caught.value).endswith(
        "cases.sample: expected at most 19, because the split test has 57 users, in 3 groups by "
        "style, found 21"
    )
    assert plan_of(path, "cases.sample=19").pending
    assert plan_of(path, "cases.sample=null").pending
