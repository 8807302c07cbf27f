"""The sweeps of LatentCRS, planned over small made-up data in the layout of ML-1M."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents.core.errors import DataError
from analysis import published
from analysis.metrics.core import parse_metric
from runner.rehearsal.dialogues import artifact_data, artifact_lines
from sweeps.load import load
from sweeps.plan import Plan
from tests.conftest import ROOT
from tests.fixtures_amazon_2023 import write_amazon_2023
from tests.fixtures_movielens import write_ml1m
from tests.sweep_files import plan_of

FOLDER = ROOT / "sweeps" / "latentcrs"
RANKED = ["recall@5", "ndcg@5", "recall@20", "ndcg@20"]
METRICS = {
    "table2": RANKED,
    "table3": RANKED,
    "table4": ["sr@3", "sr@5", "at_fail_t", "at_success_only"],
    "table5": RANKED,
    "table6": ["tokens@agent"],
    "fig3": RANKED,
}
LAPTOP, TINY = str(FOLDER / "laptop.yaml"), str(FOLDER / "tiny.yaml")
sweep = pytest.mark.parametrize("name", METRICS)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_ml1m(tmp_path / "ml-1m")
    return tmp_path


def planned(name: str, *overrides: str) -> Plan:
    return plan_of(FOLDER / f"{name}.yaml", *overrides, "cases.sample=5")


@sweep
def test_each_sweep_asks_for_its_metrics_with_the_papers_settings(data, name):
    loaded = load(FOLDER / f"{name}.yaml", [])
    assert loaded.header.metrics == METRICS[name]
    assert all(parse_metric(metric) for metric in loaded.header.metrics)
    assert loaded.header.out == f"results/latentcrs_{name}"
    assert loaded.cell["cases"]["sample"] == (None if name in ("table2", "table5") else 500)
    for cell in planned(name).cells:
        config = cell.config
        trained_for = 3 if config.agent.name == "crm" else 5
        turns = (trained_for, 5) if name == "table4" else (1, 20)
        assert (config.limits.max_turns, config.limits.shown_items) == turns
        assert config.success.name == "target_in_shown"
        assert config.simulator.options == {"decides": "rule", "max_facts": 2}
        assert config.domain.options["min_rating"] == 4
        assert [(s.sampling, s.training) for s in cell.seeds] == [(0, 0), (1, 1), (2, 2)]
        if config.agent.name in ("crm", "crif", "unicorn"):
            assert set(cell.roles) == {"user"}
            assert config.agent.options["turns"] == trained_for
            assert config.agent.options["shown"] == 5
            continue
        if "agent" in cell.roles:
            assert cell.config.models[cell.roles["agent"]].options["sampling"]["temperature"] == 0
        if config.agent.name == "latentcrs":
            basic = config.agent.options.get("variant", "basic") == "basic"
            assert ("agent" in cell.roles) is not basic
            assert config.agent.options["recommender"] == "iclrec"
            assert cell.roles["agent.encoder"] == "encoder"
            assert cell.roles["user"] == "person"


@sweep
def test_an_override_takes_the_papers_other_data_sets(data, name):
    for category in ("Video_Games", "CDs_and_Vinyl"):
        write_amazon_2023(data / "amazon-2023", category=category)
    plan = planned(name, str(FOLDER / "amazon.yaml"), LAPTOP)
    found = [source.domain.dataset for source in plan.sources]
    assert found == ["Amazon2023-Video_Games", "Amazon2023-CDs_and_Vinyl"]
    title = next(iter(plan.artifacts.values())).title
    assert title.endswith("on amazon_2023_histories (Amazon2023-Video_Games), seed 0")
    assert {cell.config.domain.options["category"] for cell in plan.cells} == {
        "Video_Games", "CDs_and_Vinyl",
    }  # fmt: skip
    assert set(published.read("latentcrs/table2").datasets.values()) >= set(found)


def test_words_and_embeddings_are_shared_by_all_that_is_trained_on_them(data):
    for name in ("table3", "table5", "fig3"):
        artifacts = planned(name).artifacts.values()
        found = [a.title.split(" on ")[0].split(" (")[0] for a in artifacts]
        for part in ("training windows", "first words of target_item by person"):
            assert found.count(part) == 3  # seeds
        trained = {"table3": 1, "table5": 4, "fig3": 14}[name]
        assert found.count("latentcrs") == 3 * trained
        assert found.count("intent anchors") == (15 if name == "fig3" else 3)


def test_titles_tell_trainings_apart_that_differ_in_options(data):
    titles = [
        a.title.removesuffix(" on movielens, seed 1") for a in planned("fig3").artifacts.values()
    ]
    assert len(set(titles)) == len(titles)
    for one in (
        "latentcrs", "latentcrs (intents=16)", "latentcrs (kl_weight=0.01)",
        "intent anchors (intents=64)", "intent anchors (intents=256)",
    ):  # fmt: skip
        assert one in titles
    trained = [a.title for a in planned("table5").artifacts.values() if a.name == "em"]
    assert trained[::3] == [
        f"latentcrs (variant={variant}) on movielens, seed 0"
        for variant in ("whole", "no_inference", "direct_kl", "no_rec")
    ]


@sweep
def test_on_a_laptop_rules_speak_and_embed(data, name):
    plan = planned(name, LAPTOP)
    assert plan.loaded.header.out == f"results/latentcrs_{name}_laptop"
    assert {c.config.models[m].backend for c in plan.cells for m in c.models} == {"rules"}
    agents = [cell.config.agent.name for cell in plan.cells]
    assert agents == [cell.config.agent.name for cell in planned(name).cells]


@sweep
def test_plan_shows_what_each_artifact_costs(data, name):
    """Model calls with their tokens; fits with their data, and their size where that is known."""
    plan = planned(name, LAPTOP, f"artifacts.path={data}/store")
    shown = artifact_data(plan, list(plan.artifacts), [])
    lines = artifact_lines(shown)
    assert len(set(lines)) == len(plan.artifacts) == len(lines)
    for artifact, line in zip(plan.artifacts.values(), lines, strict=True):
        if artifact.recipe.kind == "model_calls":
            assert re.search(r"to make, about [1-9][\d,]* calls, [1-9][\d,]* input", line), line
        else:
            assert "to make, from a domain of 491 interactions" in line
        if artifact.name in ("recommender", "em", "policy"):
            assert re.search(r", in (at most )?[\d,]+ (epochs|dialogues);", line), line
    examples = {  # 30 users: a window and a validation example each, 64 texts a call
        found["title"].split(" of ")[0]: found["calls"] for found in shown if "calls" in found
    }
    assert examples == {"first words": 60, "embeddings": 4}


@sweep
def test_the_tiny_models_take_the_places_of_the_real_ones(data, name):
    cell = load(FOLDER / f"{name}.yaml", [TINY]).cell
    models = {model.get("model", model["backend"]) for model in cell["models"].values()}
    assert models == {"models/tiny-llama", "rules"}
    assert cell["models"]["encoder"]["kind"] == "embed"


@pytest.mark.parametrize("table", ["table2", "table3", "table4", "table5"])
def test_our_rows_are_those_of_the_published_table(data, table):
    wanted = published.read(f"latentcrs/{table}")
    names = {cell.config.agent.name for cell in planned(table).cells}
    built = {agent["name"] for agent in wanted.agents.values()}
    if table in ("table3", "table5"):
        built -= {"crm", "crif", "unicorn"}
    assert names == built


def test_crm_has_the_numbers_of_table_4_that_the_paper_has(data):
    """6.2: its dialogues end early; the paper prints S@3, and neither S@5 nor AT."""
    ends = {c.config.agent.name: c.config.limits.max_turns for c in planned("table4").cells}
    assert ends["crm"] == 3
    assert set(ends.values()) == {3, 5}
    theirs = {row.row: row for row in published.read("latentcrs/table4").rows}
    assert list(theirs["CRM"].numbers) == ["sr@3"]
    assert {name for name, row in theirs.items() if row.settings["limits.max_turns"] == "3"} == {
        "CRM"
    }


def test_without_the_data_the_message_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    with pytest.raises(DataError, match="ml-1m"):
        planned("table2")
