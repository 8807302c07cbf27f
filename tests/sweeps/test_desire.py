"""The sweeps of DESIRE, planned over small made-up data in the layouts of its two data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.core.errors import DataError
from analysis import published
from analysis.metrics.core import KnownJudge, judged_by, parse_metric
from runner.rehearsal.dialogues import rehearse
from sweeps.load import load
from sweeps.plan import Plan
from tests.conftest import ROOT
from tests.fixtures_scpr import split, write_lastfm, write_yelp
from tests.sweep_files import plan_of

FOLDER = ROOT / "sweeps" / "desire"
NAMES = ("table3", "table4", "table5", "fig6")
LAPTOP, TINY = str(FOLDER / "laptop.yaml"), str(FOLDER / "tiny.yaml")
ONLY_LASTFM = str(FOLDER / "only_lastfm.yaml")
WHOLE = {"desire_reasoning": True, "exploration_action": True, "persuasive_strategy": True}
sweep = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_lastfm(tmp_path / "lastfm")
    return tmp_path


@pytest.fixture
def all_data(data) -> Path:
    write_yelp(data / "yelp")
    return data


def planned(name: str, *overrides: str) -> Plan:
    return plan_of(FOLDER / f"{name}.yaml", *overrides, "cases.sample=5")


@sweep
@pytest.mark.parametrize("user", ["ievalm", "concept"])
def test_each_sweep_has_the_papers_settings_and_runs_with_both_users(all_data, name, user):
    plan = planned(name, f"simulator={user}")
    loaded = plan.loaded
    assert loaded.header.out == f"results/desire_{name}"
    assert loaded.header.metrics[:2] == ["sr@15", "at_fail_t"]
    judges = [
        KnownJudge(
            judge.title,
            judge.ref.name,
            tuple(d.name for d in judge.dimensions),
            judge.pairs is not None,
        )
        for judge in plan.judges
    ]
    read = [judged_by(parse_metric(metric), judges).judge for metric in loaded.header.metrics]
    assert {one.plugin for one in read if one} == {judge.ref.name for judge in plan.judges}
    assert all(cell.judges.values() for cell in plan.cells)
    assert {source.domain.dataset for source in plan.sources} == {"LastFM", "Yelp"}
    assert {cell.axes["roles.agent"] for cell in plan.cells} == {"llama", "qwen"}
    for cell in plan.cells:
        config = cell.config
        assert config.limits.max_turns == 15
        assert config.success.name == "user_accepts"
        assert config.simulator.name == user
        seeds = [0] if name == "table5" else [0, 1, 2, 3, 4]
        assert [each.sampling for each in cell.seeds] == seeds
        for role, model in cell.roles.items():
            temperature = config.models[model].options["sampling"]["temperature"]
            assert (temperature > 0) == (role == "user")


@pytest.mark.parametrize("name", ["table3", "table4"])
def test_the_tables_have_every_published_row(all_data, name):
    agents = load(FOLDER / f"{name}.yaml").header.blocks[0]["agent"]
    given = [{**WHOLE, **({"name": a} if isinstance(a, str) else a)} for a in agents]
    rows = published.read(f"desire/{name}").agents
    for row, wanted in rows.items():
        fits = [each for each in given if wanted.items() <= each.items()]
        assert len(fits) == 1, row
    assert len(given) == {"table3": 6, "table4": 4}[name]


def test_policies_without_a_backbone_are_run_once_and_with_their_own_user_apart(all_data):
    cells = [c for c in planned("table3").cells if c.config.agent.name in ("ear", "unicorn")]
    assert [c.axes["roles.agent"] for c in cells] == ["llama"] * 4
    assert all(set(cell.roles) == {"user"} for cell in cells)
    apart = planned("table3_attribute_user")
    assert {cell.config.simulator.name for cell in apart.cells} == {"attribute_user"}
    assert not any(cell.roles or cell.judges for cell in apart.cells)
    keys = {key for cell in cells for key in cell.artifacts(cell.seeds[0]).values()}
    assert keys == {
        key for cell in apart.cells for key in cell.artifacts(cell.seeds[0]).values()
    }  # fmt: skip


def test_table_5_compares_desire_with_each_baseline_on_100_users(all_data):
    loaded = load(FOLDER / "table5.yaml")
    assert loaded.cell["cases"]["sample"] == 100
    agents = [a if isinstance(a, str) else a["name"] for a in loaded.header.blocks[0]["agent"]]
    assert agents == ["desire", "intercrs", "chatcrs", "macrs"]
    assert set(agents[1:]) == {
        wanted["name"] for wanted in published.read("desire/table5").agents.values()
    }
    (judge,) = planned("table5").judges
    assert judge.pairs is not None
    assert judge.pairs.of == "response"
    assert judge.pairs.baseline == "desire(recommender=item_knn)"
    assert [value.partition("(")[0] for value in judge.pairs.against] == agents[1:]


def test_figure_6_has_the_cells_of_table_4(all_data):
    figure, table = planned("fig6"), planned("table4")
    assert [cell.cell_id for cell in figure.cells] == [cell.cell_id for cell in table.cells]


@sweep
def test_one_override_makes_each_sweep_a_laptops(data, name):
    plan = planned(name, LAPTOP)
    assert load(FOLDER / f"{name}.yaml", [LAPTOP]).cell["cases"]["sample"] == 100
    assert plan.loaded.header.out == f"results/desire_{name}_laptop"
    assert [source.domain.dataset for source in plan.sources] == ["LastFM"]
    used = {cell.config.models[m].backend for cell in plan.cells for m in cell.models}
    assert used == {"rules"}
    assert {len(cell.seeds) for cell in plan.cells} == {3}


@sweep
def test_the_tiny_models_take_the_places_of_the_real_ones(data, name):
    cell = load(FOLDER / f"{name}.yaml", [TINY]).cell
    assert cell["limits"]["max_turns"] == 3
    assert {model["model"] for model in cell["models"].values()} == {
        "models/tiny-llama",
        "models/tiny-qwen",
    }


def test_without_yelp_the_message_names_an_override_that_runs_lastfm(data):
    with pytest.raises(DataError) as refused:
        planned("table3")
    assert "{domain: yelp}]' to the command" in refused.value.message
    plan = planned("table3", ONLY_LASTFM)
    assert [source.domain.dataset for source in plan.sources] == ["LastFM"]


@pytest.mark.parametrize(
    ("name", "user", "turns"),
    [
        ("table3", "ievalm", 15),
        ("table3", "concept", 1),  # it accepts any item with the attributes that all have here
        ("table4", "ievalm", 15),
    ],
)
def test_every_agent_plays_on_items_with_attributes_alone(data, name, user, turns):
    alike = {number: [0, 1] for number in range(200)}  # so that the target is hard to find
    write_lastfm(data / "lastfm", split(items=200), items=200, features=alike)
    changes = ("limits.shown_items=1", "models.rules.skill=1")
    plan = planned(name, LAPTOP, f"simulator={user}", *changes)
    for cell in range(len(plan.cells)):
        attempts = rehearse(plan, [cell], 2)
        assert all(attempt.error is None for attempt in attempts)
        assert max(len(attempt.transcript.turns) for attempt in attempts) >= turns
