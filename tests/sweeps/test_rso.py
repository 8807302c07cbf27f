"""The sweeps of RSO, planned over small made-up data in the layouts of its two data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import published
from analysis.metrics.core import KnownJudge, judged_by, parse_metric
from runner.rehearsal.dialogues import rehearse
from sweeps.load import load
from sweeps.plan import Plan
from tests.conftest import ROOT
from tests.simulators.domains.seekers_files import write_inspired, write_people, write_redial
from tests.sweep_files import plan_of

FOLDER = ROOT / "sweeps" / "rso"
NAMES = ("table4", "table5", "fig3", "fig4", "fig5")
LAPTOP, TINY = str(FOLDER / "laptop.yaml"), str(FOLDER / "tiny.yaml")
sweep = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    for name, write in (("inspired", write_inspired), ("redial", write_redial)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    write_people(tmp_path / "inspired")
    return tmp_path


def planned(name: str, *overrides: str) -> Plan:
    return plan_of(FOLDER / f"{name}.yaml", *overrides)


@sweep
def test_each_sweep_has_the_papers_settings(data, name):
    plan = planned(name)
    header = plan.loaded.header
    assert header.out == f"results/rso_{name}"
    judges = [
        KnownJudge(
            judge.title,
            judge.ref.name,
            tuple(d.name for d in judge.dimensions),
            judge.pairs is not None,
        )
        for judge in plan.judges
    ]
    metrics = [*header.metrics, *(m for table in header.tables.values() for m in table.metrics)]
    read = [judged_by(parse_metric(metric), judges).judge for metric in metrics]
    assert {one.plugin for one in read if one} == {judge.ref.name for judge in plan.judges}
    datasets = {source.domain.dataset for source in plan.sources}
    assert datasets == ({"INSPIRED"} if name == "fig3" else {"INSPIRED", "ReDial"})
    for cell in plan.cells:
        config = cell.config
        assert (config.limits.max_turns, config.limits.shown_items) == (10, 1)
        assert config.success.name == "critic_above"
        assert config.critic is not None
        assert config.critic.options == {"samples": 10, "threshold": 0.7, "temperature": 1.1}
        assert config.simulator.name == "seeker"
        assert cell.roles["critic"] == cell.roles["user"] == "qwen"
        for role, model in cell.roles.items():
            sampling = config.models[model].options.get("sampling")
            assert sampling is None if role == "agent.retriever" else sampling["temperature"] == 0


def test_the_tables_have_every_published_row_but_the_trained_systems(data):
    plan = planned("table4")
    rows = published.read("rso/table4").agents
    ours = {(cell.config.agent.name, cell.roles["agent"]) for cell in plan.cells}
    assert ours == {("zero_shot", "qwen"), ("zero_shot", "llama"), ("intercrs", "qwen"),
                    ("pc_crs", "qwen"), ("rso", "qwen")}  # fmt: skip
    built = {agent["name"] for agent in rows.values()} - {"http"}
    assert built == {name for name, _ in ours}


def test_cells_that_figures_share_with_the_tables_are_the_same(data):
    table = {cell.cell_id for cell in planned("table4").cells}
    assert {cell.cell_id for cell in planned("table5").cells} == table
    assert len({cell.cell_id for cell in planned("fig5").cells} & table) == 2
    assert len({cell.cell_id for cell in planned("fig3").cells} & table) == 1
    assert len({cell.cell_id for cell in planned("fig4").cells} & table) == 2


def test_one_relevant_movie_makes_other_cells_of_redial(data):
    plan = planned("table5", str(FOLDER / "one_relevant.yaml"))
    assert {source.domain.dataset for source in plan.sources} == {"ReDial"}
    (source,) = plan.sources
    case = source.domain.case("test", "20001")
    assert [item.title for item in case.hidden.targets] == ["Silent River (1971)"]


@sweep
def test_the_laptop_overlay_plays_every_cell_without_a_failure(data, name):
    domain = [] if name != "fig3" else ["critic.samples=2"]
    plan = planned(name, LAPTOP, *domain)
    played = rehearse(plan, range(len(plan.cells)), 2)
    assert [attempt.error for attempt in played] == [None] * len(played)
    for attempt in played:
        assert all(turn.critic is not None for turn in attempt.transcript.turns)
    assert {name for cell in plan.cells for name in cell.models} == {"rules"}


@sweep
def test_the_tiny_overlay_has_the_tiny_models(data, name):
    loaded = load(FOLDER / f"{name}.yaml", [TINY])
    assert loaded.cell["models"]["qwen"]["model"] == "models/tiny-qwen"
    assert loaded.cell["cases"]["sample"] == 5
    assert loaded.cell["critic"]["samples"] == 3


def test_what_the_released_code_does_otherwise_is_an_overlay(data):
    plan = planned("table4", str(FOLDER / "released.yaml"))
    (options,) = [cell.config.agent.options for cell in plan.cells[:1]]
    assert (options["query"], options["select"]) == ("last", True)
    assert options["planner"]["rl"] == {"lr": 0.01, "gamma": 0.999, "whiten": True}
    assert options["planner"]["decoding"] == "sample_dropout"
    assert options["planner"]["stage"] == "rl"
    # Critic, users and limits are the same.
    assert plan.cells[0].config.critic == planned("table4").cells[0].config.critic


def test_figure_3_compares_the_planner_after_sft_with_that_after_rl(data):
    stages = [cell.config.agent.options["planner"]["stage"] for cell in planned("fig3").cells]
    assert sorted(stages) == ["rl", "sft"]


def test_both_domains_share_the_fine_tuned_planner_and_have_a_reinforced_one_each(data):
    made = planned("table4").artifacts.values()
    policies = [(a.title, len(a.cells)) for a in made if a.title.startswith("policy")]
    seeds = range(3)
    assert sorted(policies) == sorted(
        [(f"policy (transformer, SFT), seed {seed}", 2) for seed in seeds]
        + [
            (f"policy (transformer, RL) on {domain}, seed {seed}", 1)
            for domain in ("inspired", "redial")
            for seed in seeds
        ]
    )
