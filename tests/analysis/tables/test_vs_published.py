"""Ours next to a paper's: which rows meet, and what is said of how they differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from agents.core.errors import UsageError
from analysis import published
from analysis.results import Results
from analysis.tables import render, sheets
from analysis.tables.table import Table
from analysis.tables.vs_published import table_with_published
from tests.analysis.builder import Built, Cell

MODEL = {
    "backend": "vllm",
    "model": "some/Llama",
    "revision": "abc",
    "sampling": {"temperature": 0},
}
SETTINGS: dict[str, Any] = {
    "domain": {"name": "movielens", "min_rating": 3.0, "k_core": 10},
    "simulator": {"name": "target_item", "decides": "model"},
    "success": {"name": "user_accepts"},
    "cases": {"split": "test", "sample": 4, "sample_seed": 0},
    "limits": {"max_turns": 5, "shown_items": 10, "episode_tokens": 60_000},
    "models": {"agent": MODEL, "user": MODEL},
}
WHOLE = {"name": "af_irs", "action_first": True, "llm2rs": True, "llm_refine": True,
         "recommender": {"name": "sasrec"}, "candidates": 50}  # fmt: skip


def cell(agent: Mapping[str, Any] | str, backbone: str = "llama", dataset: str = "ML-1M") -> Cell:
    """A cell with the paper's settings."""
    ref = {"name": agent} if isinstance(agent, str) else dict(agent)
    axes = {"domain": f"path of {dataset}", "agent": str(ref), "roles.agent": backbone}
    name = " ".join(axes.values())
    return Cell(name, axes, source_id=dataset, settings={**SETTINGS, "agent": ref})


def results(folder, *cells: Cell, cases: int = 4) -> Results:
    """Each cell succeeds in turn 1 for one case of each seed, else never."""
    built = Built(list(cells), case_ids=[f"u{n}" for n in range(cases)])
    for one in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                built.episode(
                    one,
                    case_id,
                    seed,
                    success_turn=1 if case_id == "u0" else None,
                    max_turns=one.settings.get("limits", SETTINGS["limits"])["max_turns"],
                )
    return Results.open(
        built.write(folder, sources=sources_of(built), seed_varies="sampling and training")
    )


def sources_of(built: Built) -> list[dict[str, Any]]:
    return [
        {"source_id": name, "domain": "movielens", "split": "test", "sample": len(built.case_ids),
         "fingerprint": "f", "dataset": name}
        for name in dict.fromkeys(one.source_id for one in built.cells)
    ]  # fmt: skip


def with_published(folder, *cells: Cell, table: str = "af_irs/table2", **options: Any) -> Table:
    return table_with_published(results(folder, *cells), published.read(table), **options)


def labels(table: Table) -> list[tuple[str, ...]]:
    return [tuple(row.axes.values()) for row in table.rows]


def texts(table: Table, row: int) -> list[str | None]:
    return [figure and figure.marked for figure in table.published[row]]


def test_rows_are_in_the_papers_order_with_its_numbers(tmp_path):
    table = with_published(
        tmp_path, cell(WHOLE), cell("zero_shot", dataset="Steam"), cell("zero_shot")
    )
    assert table.axes == ["dataset", "row"]
    assert labels(table) == [("ML-1M", "Zero-shot"), ("ML-1M", "Ours"), ("Steam", "Zero-shot")]
    assert [metric.name for metric in table.metrics] == ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"]
    assert texts(table, 1) == ["0.27*", "0.68*", "0.81*", "3.13*"]
    assert texts(table, 2) == ["0.22", "0.57", "0.67", "3.51"]
    assert [v.mean for v in table.rows[0].values] == [0.25, 0.25, 0.25, 0.25 + 0.75 * 6]
    assert any(note.startswith("* better than the best baseline") for note in table.notes)


def test_numbers_that_the_paper_leaves_blank_are_blank_here(tmp_path):
    """LatentCRS, Table 4: CRM's dialogues end before turn 5."""
    crm = cell("crm")
    limits = {**SETTINGS["limits"], "max_turns": 3}
    crm = replace(crm, settings={**crm.settings, "limits": limits})
    table = with_published(tmp_path, crm, cell("crif"), table="latentcrs/table4")
    assert [row for _, row in labels(table)] == ["CRM", "CRIF"]
    assert [metric.name for metric in table.metrics] == ["sr@3", "sr@5", "at_fail_t"]
    assert texts(table, 0) == ["0.413", None, None]
    assert [value.mean for value in table.rows[0].values] == [0.25, None, None]
    assert [value.mean for value in table.rows[1].values] == [0.25, 0.25, 0.25 + 0.75 * 5]
    assert not any("differs: limits.max_turns" in note for note in table.notes)


def test_cells_of_one_row_are_named_by_the_axes_in_which_they_differ(tmp_path):
    table = with_published(tmp_path, cell("react", "llama"), cell("react", "qwen"))
    assert table.axes == ["dataset", "row", "roles.agent"]
    assert labels(table) == [("ML-1M", "ReAct", "llama"), ("ML-1M", "ReAct", "qwen")]


def test_an_ablation_is_the_row_of_its_options_and_of_no_other(tmp_path):
    cells = [cell({**WHOLE, option: False}) for option in ("action_first", "llm2rs", "llm_refine")]
    ablations = with_published(tmp_path / "3", *cells, table="af_irs/table3")
    assert [row for _, row in labels(ablations)] == [
        "w/o Action-First",
        "w/o LLM2RS",
        "w/o LLM-refine",
    ]
    both = cell({**WHOLE, "llm2rs": False, "llm_refine": False})
    with pytest.raises(UsageError, match="no cell of"):
        with_published(tmp_path / "2", both, table="af_irs/table3")


def test_metrics_can_be_chosen_and_need_not_be_published(tmp_path):
    table = with_published(tmp_path, cell("zero_shot"), metrics=["sr@5", "sr@4"])
    assert texts(table, 0) == ["0.71", None]


def test_the_papers_own_settings_leave_only_what_cannot_be_the_same(tmp_path):
    notes = [n for n in with_published(tmp_path, cell(WHOLE)).notes if n.startswith("differs")]
    assert notes == [
        "differs: backbone: published a widely used LLM API, here some/Llama@abc (agent and user)",
        "differs: cases: published 6038, here 4",
        "differs: repetitions: published not stated, here 3 seeds (varied: sampling and training)",
    ]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("limits.max_turns", 10, "limits.max_turns: published 5, here 10"),
        ("limits.shown_items", 5, "limits.shown_items: published 10, here 5"),
        ("cases.split", "validation", "cases.split: published test, here validation"),
        ("success.name", "target_in_shown", "success: published user_accepts, here target_in_"),
        ("simulator.decides", "rule", "simulator.decides: published model, here rule"),
        ("agent.candidates", 20, "agent.candidates: published 50, here 20"),
        ("agent.recommender", {"name": "item_knn"}, "recommender: published sasrec, here item_knn"),
        ("domain.min_rating", None, "domain.min_rating: published 3, here no such setting"),
        ("domain.k_core", 5, "domain.k_core: published 10, here 5"),
    ],
)
def test_a_setting_that_differs_is_named_with_both_values(tmp_path, path, value, expected):
    changed = cell(WHOLE)
    head, key = path.split(".")
    settings = changed.settings
    settings[head] = {**settings[head], key: value}
    notes = with_published(tmp_path, changed, cell("zero_shot")).notes
    (note,) = [note for note in notes if expected in note]
    assert note.endswith(" (ML-1M Ours)")


def test_a_temperature_is_compared_where_the_paper_states_one(tmp_path):
    warm = cell("react")
    model = {**MODEL, "sampling": {"temperature": 0.7}}
    warm.settings["models"] = {"agent": model, "user": MODEL}
    notes = with_published(tmp_path, warm, cell(WHOLE)).notes
    assert "differs: temperature: published 0, here 0.7 (ML-1M ReAct)" in notes


def test_what_has_no_partner_is_named(tmp_path):
    notes = with_published(tmp_path, cell("zero_shot"), cell("mine")).notes
    assert any(
        note.startswith("published and not run here: Amazon-Beauty, Steam, ML-1M ReAct")
        for note in notes
    )
    assert "run here and not published, left out: {'name': 'mine'} on ML-1M" in notes


def test_published_numbers_that_cannot_be_are_listed_even_where_not_run(tmp_path):
    note = "! these published numbers of Amazon-Beauty w/o Action-First cannot all be correct: "
    whole = with_published(tmp_path / "a", cell(WHOLE), table="af_irs/table3")
    assert [n.startswith(note) for n in whole.notes if n.startswith("!")] == [True]
    ablated = cell({**WHOLE, "action_first": False}, dataset="Amazon-Beauty")
    table = with_published(tmp_path / "b", ablated, table="af_irs/table3")
    assert texts(table, 0) == ["0.17!", "0.46!", "0.47!", "4.40!"]
    assert not any(n.startswith("!") for n in with_published(tmp_path / "c", cell(WHOLE)).notes)


DESIRE = {"name": "desire", "desire_reasoning": True, "exploration_action": True,
          "persuasive_strategy": True}  # fmt: skip


def test_numbers_without_a_metric_are_notes_with_the_reason(tmp_path):
    table = with_published(
        tmp_path,
        cell({**DESIRE, "exploration_action": False}, dataset="LastFM"),
        table="desire/table4",
    )
    assert labels(table) == [("LastFM", "w/o exploration action")]
    assert [metric.name for metric in table.metrics] == ["sr@15", "at_fail_t"]
    assert texts(table, 0) == ["0.491", "14.78"]
    (note,) = [note for note in table.notes if note.startswith("published only: persuasiveness (")]
    assert note.endswith("): LastFM w/o exploration action 69.90")
    (note,) = [note for note in table.notes if note.startswith("published only: relevance (")]
    assert note == (
        "published only: relevance (this sweep has no judge relevance): LastFM w/o exploration "
        "action 4.32"
    )
    start = "the published numbers of LastFM w/o exploration action contradict their text: "
    (note,) = [note for note in table.notes if note.startswith(start)]
    assert "persuasiveness 69.90, convincing_acceptance 63.79 with sr@15 0.491" in note


@pytest.mark.parametrize("backend", ["vllm", "rules"])
def test_judged_numbers_are_compared_where_a_language_model_judged(tmp_path, backend):
    built = Built([cell(DESIRE, dataset="LastFM")])
    judge = built.judge("relevance", "clarity", "sufficiency", "alignment")
    for case in built.case_ids:
        for seed in built.seeds:
            episode = built.episode(built.cells[0], case, seed)
            for dimension in ("clarity", "sufficiency", "alignment"):
                built.verdict(judge, episode, dimension, 4)
    models = {"models": {"strong": {"backend": backend}}}
    watermark = ["rules"] if backend == "rules" else []
    folder = built.write(tmp_path, sources=sources_of(built), config=models, watermark=watermark)
    read = published.read("desire/table4")
    if watermark:
        with pytest.raises(UsageError, match=r"verdicts of the rules backend \(role judge\.relev"):
            table_with_published(Results.open(folder), read)
        assert table_with_published(Results.open(folder), read, ["sr@15"]).rows
        return
    table = table_with_published(Results.open(folder), read)
    assert texts(table, 0) == ["0.583", "12.76", "4.70"]
    assert any(note.startswith("differs: relevance: the paper prints nei") for note in table.notes)


def test_a_remark_on_one_depth_of_a_metric_is_printed(tmp_path):
    folder = results(tmp_path, cell({"name": "unicorn"}, dataset="LastFM"))
    notes = table_with_published(folder, published.read("unicorn/table3")).notes
    assert any(note.startswith("differs: sr@14: printed as SR@15: the publ") for note in notes)


def test_a_cell_is_compared_with_every_row_of_its_method(tmp_path):
    table = with_published(tmp_path, cell(DESIRE, dataset="LastFM"), table="desire/table3")
    assert [row for _, row in labels(table)] == [
        f"DESIRE ({backbone})" for backbone in ("LLaMA-7B", "GPT-3.5-Turbo", "GPT-4-Turbo")
    ]
    (note,) = [note for note in table.notes if "not run here" in note]
    assert "LastFM EAR" in note


def test_rows_of_one_agent_that_differ_in_the_model_have_the_cells_of_their_model(tmp_path):
    qwen, llama, other = cells = [cell("zero_shot", name, "ReDial") for name in ("q", "l", "o")]
    for one, model in (
        (qwen, "Qwen/Qwen2.5-7B-Instruct"),
        (llama, "meta-llama/Llama-3.1-8B-Instruct"),
        (other, "some/other"),
    ):
        one.settings = {**one.settings, "models": {"agent": {**MODEL, "model": model}}}
    table = with_published(tmp_path, *cells, table="rso/table5")
    assert labels(table) == [
        ("ReDial", "QwenCRS", "q"),
        ("ReDial", "QwenCRS", "o"),
        ("ReDial", "LlamaCRS", "l"),
        ("ReDial", "LlamaCRS", "o"),
    ]


def test_an_option_that_is_a_policy_is_compared_by_what_the_row_says_of_it(tmp_path):
    whole = {"name": "rso", "preference_reasoner": True, "fact_retriever": True}
    planners = {"stage": "rl", "labels": "inspired"}, {"stage": "sft", "labels": "inspired"}, False
    cells = [cell({**whole, "planner": planner}, dataset="ReDial") for planner in planners]
    table = with_published(tmp_path, *cells, table="rso/fig5", metrics=["conv_sr"])
    assert [row for _, row in labels(table)] == ["w/o planner", "RSO (Ours)"]
    assert [texts(table, 0), texts(table, 1)] == [["0.94"], ["0.98"]]
    (note,) = [note for note in table.notes if note.startswith("run here and not published")]
    assert "sft" in note


def test_a_table_of_which_no_number_has_a_metric_needs_one_named(tmp_path):
    with pytest.raises(UsageError) as caught:
        with_published(tmp_path, cell("intercrs", dataset="LastFM"), table="desire/table5")
    assert "none of its numbers has a metric here: a share of pairs" in caught.value.message


@pytest.mark.parametrize("backend", ["rules", "latency"])
@pytest.mark.parametrize("role", ["agent", "user"])
def test_backends_that_are_no_language_models_are_refused(tmp_path, backend, role):
    made_up = cell("react")
    made_up.backends[role] = backend
    with pytest.raises(UsageError) as caught:
        with_published(tmp_path, cell("zero_shot"), made_up)
    assert f"holds results of the {backend} backend (role {role})" in caught.value.message
    assert "never compared with published" in caught.value.message


def test_a_folder_without_a_published_row_is_refused_with_what_was_found(tmp_path):
    with pytest.raises(UsageError) as caught:
        with_published(tmp_path / "a", cell("zero_shot", dataset="ML-100K"))
    assert "found {'name': 'zero_shot'} on ML-100K" in caught.value.message
    assert "expected data sets ML-1M, Amazon-Beauty, Steam" in caught.value.message
    old = cell("zero_shot")
    old.settings = {}
    with pytest.raises(UsageError, match="an earlier crsweep"):
        with_published(tmp_path / "b", old)


def test_every_format_has_the_published_number_and_the_difference(tmp_path):
    ablated = cell({**WHOLE, "action_first": False}, dataset="Amazon-Beauty")
    table = with_published(tmp_path, ablated, table="af_irs/table3", metrics=["sr@5", "sr@4"])
    console = Console(file=io.StringIO(), width=200)
    sheets.print_text(render.sheet(table), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.47!" in text
    assert "-0.220" in text
    assert "cannot all be" in text
    lines = sheets.markdown(render.sheet(table)).splitlines()
    assert lines[0].startswith("| dataset | row | sr@5 | published | difference | sr@4 |")
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert "| 0.250 ± 0.000 | 0.47! | -0.220 | 0.250 ± 0.000 | – | – | 12 of 12 |" in lines[2]
    latex = sheets.latex(render.sheet(table))
    assert r"\begin{tabular}{llrrrrrrr}" in latex
    assert r"0.250 $\pm$ 0.000 & 0.47! & -0.220 & 0.250 $\pm$ 0.000 & -- & -- & 12 of 12" in latex
    (row,) = csv.DictReader(io.StringIO(render.as_csv(table)))
    assert (row["sr@5_published"], row["sr@4_published"]) == ("0.47", "")
    assert float(row["sr@5_difference"]) == pytest.approx(-0.22)
    assert (row["dataset"], row["row"]) == ("Amazon-Beauty", "w/o Action-First")
