"""The sweeps of AF-IRS, planned over small made-up data in the layouts of its three data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.core import plugins
from agents.core.errors import DataError
from analysis.metrics.core import parse_metric
from sweeps.load import load
from sweeps.plan import Plan
from tests.conftest import ROOT
from tests.fixtures_movielens import write_ml1m
from tests.fixtures_reviews import write_amazon, write_steam
from tests.sweep_files import plan_of

FOLDER = ROOT / "sweeps" / "af_irs"
METRICS = {
    "table2": ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"],
    "table3": ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"],
    "fig5_dsr": ["dsr_pooled@5", "dsr_dialogue@5"],
    "fig6_hit_rate": ["hr@50_turn", "hr@50_session"],
}
LAPTOP = str(FOLDER / "laptop.yaml")
ONLY_ML1M = str(FOLDER / "only_ml1m.yaml")
sweep = pytest.mark.parametrize("name", METRICS)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_ml1m(tmp_path / "ml-1m")
    return tmp_path


@pytest.fixture
def all_data(data) -> Path:
    write_amazon(data / "amazon-beauty")
    write_steam(data / "steam")
    return data


def planned(name: str, *overrides: str) -> Plan:
    """The plan of a sweep with those of its agents that are there; at least with one."""
    path = FOLDER / f"{name}.yaml"
    known = plugins.names("agents")
    wanted = load(path, overrides).header.blocks[0]["agent"]
    there = [a for a in wanted if (a if isinstance(a, str) else a["name"]) in known]
    agents = f"grid.agent={json.dumps(there or ['zero_shot'])}"
    return plan_of(path, *overrides, agents, "cases.sample=5")


@sweep
def test_each_sweep_asks_for_its_metrics_with_the_papers_settings(all_data, name):
    plan = planned(name)
    loaded = load(FOLDER / f"{name}.yaml")
    assert loaded.header.metrics == METRICS[name]
    assert all(parse_metric(metric) for metric in loaded.header.metrics)
    assert loaded.header.out == f"results/af_irs_{name}"
    assert {source.domain.dataset for source in plan.sources} == {
        "ML-1M",
        "Amazon-Beauty",
        "Steam",
    }
    for cell in plan.cells:
        config = cell.config
        assert (config.limits.max_turns, config.limits.shown_items) == (5, 10)
        assert config.success.name == "user_accepts"
        assert config.simulator.options == {"decides": "model"}
        assert config.domain.options["k_core"] == 10
        assert config.domain.options.get("min_rating", 3) == 3
        assert [seeds.sampling for seeds in cell.seeds] == [0, 1, 2]
        assert [seeds.training for seeds in cell.seeds] == [0, 1, 2]
        agents = {model for role, model in cell.roles.items() if role.startswith("agent")}
        for model in agents:
            assert config.models[model].options["sampling"]["temperature"] == 0
        assert config.models[cell.roles["user"]].options["sampling"]["temperature"] > 0


@sweep
def test_each_sweep_runs_with_ml1m_alone(data, name):
    plan = planned(name, ONLY_ML1M)
    assert [source.domain.dataset for source in plan.sources] == ["ML-1M"]
    assert {cell.axes["roles.agent"] for cell in plan.cells} == {"llama", "qwen"}


def test_without_two_data_sets_the_message_names_an_override_that_runs_the_third(data):
    with pytest.raises(DataError) as refused:
        planned("table2")
    named = "'exclude=[{domain: amazon}, {domain: steam}]'"
    assert refused.value.message.endswith(
        f"To run with domain=movielens alone, add {named} to the command"
    )
    plan, alone = planned("table2", named.strip("'")), planned("table2", ONLY_ML1M)
    assert [cell.cell_id for cell in plan.cells] == [cell.cell_id for cell in alone.cells]


@sweep
def test_one_override_makes_each_sweep_a_laptops(data, name):
    plan = planned(name, LAPTOP)
    assert load(FOLDER / f"{name}.yaml", [LAPTOP]).cell["cases"]["sample"] == 100
    assert plan.loaded.header.out == f"results/af_irs_{name}_laptop"
    assert [source.domain.dataset for source in plan.sources] == ["ML-1M"]
    used = {(cell.config.models[m].backend) for cell in plan.cells for m in cell.roles.values()}
    assert used == {"rules"}


def test_table_2_has_the_papers_eight_methods_and_table_3_its_four_variants(all_data):
    from analysis import published

    for name in ("table2", "table3"):
        agents = load(FOLDER / f"{name}.yaml").header.blocks[0]["agent"]
        given = [{"name": a} if isinstance(a, str) else a for a in agents]
        wanted = list(published.read(f"af_irs/{name}").agents.values())
        assert len(given) == len(wanted)
        for row in wanted:
            defaults = {"action_first": True, "llm2rs": True, "llm_refine": True}
            fits = [ref for ref in given if row.items() <= {**defaults, **ref}.items()]
            assert len(fits) == 1, row
        tools = [ref for ref in given if len(ref) > 1]
        assert all((r["recommender"], r["candidates"]) == ("sasrec", 50) for r in tools)
