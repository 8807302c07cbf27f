"""`tables:` and `figures:` of a sweep file: checked before anything starts, and in no id."""

from __future__ import annotations

from typing import Any

import pytest

from agents.core.errors import UsageError
from runner.driver.loading import load_plan
from sweeps.load import load
from tests.conftest import ROOT
from tests.sweep_files import write_sweep

TABLES = {"main": {"rows": ["agent"], "columns": ["metric"], "ties": "agent"}}
GRID = {"agent": ["zero_shot", "react"], "roles.agent": ["strong"], "seed": [0, 1]}


def test_tables_and_figures_change_no_episode(tmp_path):
    figures = {"success": {"kind": "turns", "axis": "agent"}, "cost": {"kind": "cost"}}
    plain = load_plan(write_sweep(tmp_path, grid=GRID), [])
    (tmp_path / "more").mkdir()
    more = load_plan(write_sweep(tmp_path / "more", grid=GRID, tables=TABLES, figures=figures), [])
    assert [cell.cell_id for cell in plain.cells] == [cell.cell_id for cell in more.cells]
    assert more.loaded.header.tables["main"].ties == "agent"


def test_a_metric_of_a_turn_that_no_dialogue_has_is_remarked_on(tmp_path):
    path = write_sweep(tmp_path, metrics=["sr@3", "sr@9"], limits={"max_turns": 5})
    [remark] = load_plan(path, []).remarks
    assert remark.startswith(f"{path}:")
    assert remark.endswith("sr@9: dialogues end after 5 turns, so this is the value at 5")


def test_rankings_are_as_deep_as_the_deepest_metric_of_the_file(tmp_path):
    def depth(**changes):
        return load_plan(write_sweep(tmp_path, **changes), []).depth

    assert depth(metrics=["sr@3"]) == 0
    assert depth(metrics=["sr@300", "recall@7", "ndcg_completed@30"]) == 30
    assert depth(metrics=["recall_any@7"], tables={"x": {"metrics": ["recall@40"]}}) == 40
    assert depth(tables={"x": {"published": "latentcrs/table2"}}) == 20
    figures = {"x": {"kind": "bars", "metrics": ["ndcg@50"]}, "y": {"kind": "curves"}}
    assert depth(metrics=["sr@1"], figures=figures) == 50


def test_an_unknown_metric_is_refused_with_where_the_metrics_are_explained(tmp_path):
    path = write_sweep(tmp_path, metrics=["precision"])
    with pytest.raises(UsageError, match=r"'precision' \(docs/results.md, Metrics, explains all"):
        load_plan(path, [])


@pytest.mark.parametrize(
    ("part", "spec", "message"),
    [
        ("tables", {"rows": ["agnt"]}, "no axis 'agnt'; did you mean 'agent'"),
        ("tables", {"ties": "metric"}, "no axis 'metric'"),
        ("tables", {"columns": ["group"]}, "no axis 'group'"),
        ("tables", {"by": ["openness"], "ties": "group"}, "no axis 'group'"),
        ("tables", {"metrics": ["sr"]}, r"'sr': expected the turn t, such as sr@5"),
        ("tables", {"metrics": ["relevance"]}, "not in `judges:`"),
        ("tables", {"published": "af_irs/table99"}, "no published table is called"),
        ("tables", {"published": "af_irs/table2", "rows": ["agent"]}, "leave `rows`"),
        ("tables", {"by": ["age"]}, "openness"),
        ("tables", {"row": ["agent"]}, "did you mean 'rows'|unknown key 'row'"),
        ("figures", {"kind": "turns", "axis": "agnt"}, "did you mean 'agent'"),
        ("figures", {"kind": "pie"}, "'turns', 'tradeoff'|turns"),
        ("figures", {}, "kind"),
    ],
)
def test_what_a_table_or_figure_cannot_be_is_said_with_its_line(tmp_path, part, spec, message):
    changes: dict[str, Any] = {part: {"x": spec}}
    path = write_sweep(tmp_path, name="sweep.yaml", grid=GRID, **changes)
    with pytest.raises(UsageError, match=message) as found:
        load_plan(path, [])
    assert f"{path}:" in str(found.value)


def test_groups_of_users_can_be_rows_or_columns(tmp_path):
    by = {"rows": ["agent"], "columns": ["group"], "by": ["openness"]}
    named = {"rows": ["group"], "columns": ["agent"], "metrics": ["sr@5[Active]"]}
    path = write_sweep(tmp_path, grid=GRID, tables={"by": by, "named": named})
    assert load_plan(path, []).loaded.header.tables["by"].columns == ["group"]


PAPERS = sorted(
    path
    for paper in ("af_irs", "csi", "desire")
    for path in (ROOT / "sweeps" / paper).glob("*.yaml")
    # What people answer is a table of pairs and one of agreement, which need no definition.
    if path.name.startswith(("table", "fig")) and not path.stem.endswith("_people")
)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_sweep_of_a_paper_defines_its_tables_and_figures(path):
    header = load(path, elsewhere=True).header
    assert header.tables or header.figures
    if path.stem.startswith("table"):
        assert path.stem in header.tables or path.stem == "table5"  # which are the pairs
    if path.stem.startswith("fig"):
        assert path.stem.split("_")[0] in {*header.tables, *header.figures}
