"""The sweeps of CSI, planned over small made-up data in the official layout."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest

from agents.core import plugins
from agents.core.agent import AgentContext
from agents.core.dialogue import Message
from agents.core.errors import UsageError
from agents.core.items import Item, VisibleCase
from agents.core.sales import Strategy
from analysis import published
from analysis.metrics.core import parse_metric
from runner.annotation.questions import find_judge, questions_of
from runner.driver.loading import load_plan
from simulators.core.profiles import WrittenProfiles
from simulators.users.csuser import CSUser
from sweeps.load import load
from sweeps.plan import Plan
from tests.agents.csi.harness import CATALOGUE, OPENING, answered
from tests.conftest import ROOT
from tests.fixtures_amazon_2023 import (
    CATEGORY,
    product,
    profiles_of,
    rows,
    write_amazon_2023,
)
from tests.sweep_files import plan_of
from workers.backends.core.replies import random_reply

FOLDER = ROOT / "sweeps" / "csi"
NAMES = (
    "table3",
    "table4",
    "fig4_people",
    "fig5_memory",
    "fig7_actions",
    "fig8_strategies",
    "fig9_profiles",
)
BY = {"fig7_actions": ["openness"], "fig8_strategies": ["style"]}
FEW = "cases.sample=2"
LAPTOP, TINY = str(FOLDER / "laptop.yaml"), str(FOLDER / "tiny.yaml")
sweep = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    folder = tmp_path / "amazon-2023"
    # Few kinds of products, so that users have three targets or more.
    every = rows(users=30, items=20, each=14)
    numbers = sorted({row.item for row in every})
    for category in (CATEGORY, "Electronics"):
        path = [category.replace("_", " "), "Things"]
        products = [product(number, categories=path) for number in numbers]
        write_amazon_2023(folder, every, products, category=category)
    return tmp_path


def planned(name: str, *overrides: str) -> Plan:
    """With profiles of all users."""
    users = [f"AE{number:04d}" for number in range(30)]
    written = {one["user"]: one for one in profiles_of(users)}
    profiles = WrittenProfiles("0" * 32, {"profiles": written, "left_out": {}, "leaks": 0})
    path = FOLDER / f"{name}.yaml"
    return plan_of(path, *overrides, FEW, find_profiles=lambda key: profiles)


@sweep
def test_profiles_are_written_first(data, name):
    plan = plan_of(FOLDER / f"{name}.yaml", FEW)
    assert plan.episodes == 0
    assert len(plan.pending) == len(plan.sources)
    for cell in plan.cells:
        assert cell.roles["user.profiler"] == "profiler"
    assert len({plan.artifacts[key].seed for key in plan.pending}) == 1


@sweep
def test_each_sweep_has_the_papers_settings(data, name):
    plan = planned(name)
    loaded = load(FOLDER / f"{name}.yaml")
    assert loaded.cell["cases"]["sample"] == 150
    assert loaded.cell["cases"]["by"] == BY.get(name, ["openness", "style"])
    assert plan.loaded.header.out == f"results/csi_{name}"
    assert [parse_metric(metric).name for metric in plan.loaded.header.metrics]
    for cell in plan.cells:
        config = cell.config
        assert (config.limits.max_turns, config.success.name) == (10, "user_accepts")
        assert config.simulator.name == "csuser"
        assert bool(config.simulator.options) == (name == "fig9_profiles")
        options: Any = CSUser.Options(**config.simulator.options)
        assert not options.may_leave  # Table 13 knows no leaving
        assert config.domain.options["min_targets"] == 3
        for role, model in cell.roles.items():
            if role.endswith(".retriever"):
                options = config.models[model].options
                assert options["model"] == "sentence-transformers/sentence-t5-base"  # B.3
                continue
            temperature = config.models[model].options["sampling"]["temperature"]
            assert (temperature > 0) == (role == "user")


def test_table_3_has_every_published_row_on_both_categories(data):
    plan = planned("table3")
    given = [{"profile": True, **a} for a in load(FOLDER / "table3.yaml").header.blocks[0]["agent"]]
    for row, wanted in published.read("csi/table3").agents.items():
        assert sum(wanted.items() <= each.items() for each in given) == 1, row
    assert len(given) == 5
    assert {source.domain.dataset for source in plan.sources} == set(
        published.read("csi/table3").datasets.values()
    )
    assert "sr@10" in plan.loaded.header.metrics


def test_an_override_needs_no_weights_of_embeddings(data):
    for name in ("table3", "fig9_profiles"):
        dense, lexical = planned(name), planned(name, "vars.retriever=lexical")
        assert all("agent.retriever" in cell.roles for cell in dense.cells)
        assert any("user.retriever" in cell.roles for cell in dense.cells) == (name != "table3")
        assert {m for cell in lexical.cells for m in cell.models} == {"llama", "person"}


@sweep
def test_no_agent_sees_what_the_user_bought_before(data, name):
    """The hidden profile was written from it. The catalogue lacks these items, so that a search
    that leaves them out fails, too."""
    marked = tuple(Item(f"H{n}", f"SECRET-HISTORY {n}", {"category": ("X",)}) for n in range(12))
    rng = random.Random(0)
    agents = {repr(cell.config.agent): cell.config.agent for cell in planned(name, LAPTOP).cells}
    for used in agents.values():
        cls = plugins.load("agents", used.name, "agent")
        context = AgentContext(CATALOGUE, VisibleCase("u1", marked), 2)
        agent, said = cls(cls.Options(**used.options), context), [OPENING]
        for _ in range(12):
            turn, calls = answered(
                agent, lambda call: random_reply(call.step.schema, rng), *said, name=used.name
            )
            assert calls
            for call in calls:
                assert all("SECRET" not in message.content for message in call.messages)
            said += [Message("recommender", turn.text, turn.shown), Message("user", "No.")]


def test_table_4_varies_both_sides(data):
    plan = planned("table4")
    pairs = {(cell.axes["roles.user"], cell.axes["roles.agent"]) for cell in plan.cells}
    assert len(pairs) == 4
    assert {source.domain.dataset for source in plan.sources} == {f"Amazon2023-{CATEGORY}"}


def test_each_seed_of_figure_5_meets_the_users_in_an_order_of_its_own(data):
    plan = planned("fig5_memory", LAPTOP)
    online = [cell for cell in plan.cells if cell.memory is not None]
    assert len(online) == 2
    for cell in online:
        assert [(seeds.sampling, seeds.order) for seeds in cell.seeds] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("overrides", [[], [LAPTOP], [str(FOLDER / "only_clothing.yaml")]])
def test_figure_5_keeps_its_training_users_under_every_override(data, overrides):
    for name, share in (("fig5_memory", 0.2), ("table3", 0.1)):
        plan = plan_of(FOLDER / f"{name}.yaml", *overrides, FEW)
        shares = {source.domain.options.train_users for source in plan.sources}
        assert shares == {share}, name


def test_figures_4_and_7_have_cells_of_table_3(data):
    table = {cell.cell_id for cell in planned("table3").cells}
    for name in ("fig4_people", "fig7_actions"):
        assert {cell.cell_id for cell in planned(name).cells} < table


def test_figure_4_compares_whole_dialogues_of_csi_and_chatcrs(data):
    judge = find_judge(planned("fig4_people"), "agent=csi,chatcrs_sales", "proactiveness")
    assert judge.pairs is not None
    assert judge.pairs.of == "dialogue"
    assert judge.pairs.baseline == "csi(retriever=dense)"
    assert [q.name for q in questions_of(judge)] == ["questionability", "persuasiveness", "overall"]


@sweep
def test_one_override_makes_each_sweep_a_laptops(data, name):
    plan = planned(name, LAPTOP)
    assert plan.loaded.header.out == f"results/csi_{name}_laptop"
    assert [source.domain.dataset for source in plan.sources] == [f"Amazon2023-{CATEGORY}"]
    assert not any(role.endswith(".retriever") for cell in plan.cells for role in cell.roles)
    spoken = {cell.config.models[m].backend for cell in plan.cells for m in cell.models}
    assert spoken == {"rules"}
    assert {len(cell.seeds) for cell in plan.cells} == {2}
    assert plan.loaded.header.metrics == load(FOLDER / f"{name}.yaml").header.metrics


@sweep
def test_the_tiny_model_takes_the_place_of_the_real_one(data, name):
    cell = load(FOLDER / f"{name}.yaml", [TINY]).cell
    assert cell["limits"]["max_turns"] == 3
    assert cell["models"]["llama"]["model"] == cell["models"]["person"]["model"]
    assert cell["models"]["person"]["model"] == "models/tiny-llama"
    for agent in load(FOLDER / f"{name}.yaml", [TINY]).header.blocks[0]["agent"]:
        assert agent["retriever"] == "lexical"


def test_figure_8_has_every_strategy_and_figure_9_every_ablation_next_to_the_whole_profile(data):
    strategies = [
        cell.config.agent.options["strategy"] for cell in planned("fig8_strategies").cells
    ]
    assert strategies == list(get_args(Strategy))
    first, *others = [cell.config.simulator.options for cell in planned("fig9_profiles").cells]
    assert first == {"records_similarity": True, "similarity": "dense"}
    off = [{name for name, value in options.items() if value is False} for options in others]
    assert off == [
        {"general_preference"},
        {"purchase_reason"},
        {"general_preference", "purchase_reason"},
        {"target_needs"},
        {"personality"},
    ]


@pytest.mark.parametrize("where", ["metrics", "tables.fig9.metrics"])
def test_a_comparison_with_a_cell_that_there_is_not_is_refused_by_plan(data, where):
    assert len(load_plan(FOLDER / "fig9_profiles.yaml", [FEW]).cells) == 6
    wrong = f"{where}=['similarity_win_rate@6']"
    with pytest.raises(UsageError, match="there is no cell 6; the sweep has 6, counted from 0"):
        load_plan(FOLDER / "fig9_profiles.yaml", [FEW, wrong])
