"""`tables:` and `figures:` of a sweep file: checked before anything starts, and in no id."""

from __future__ import annotations

import pytest

from agents.core.errors import UsageError
from runner.driver.loading import load_plan
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


@pytest.mark.parametrize(
    ("part", "spec", "message"),
    [
        ("tables", {"rows": ["agnt"]}, "no axis 'agnt'; did you mean 'agent'"),
        ("tables", {"ties": "metric"}, "no axis 'metric'"),
        ("tables", {"metrics": ["sr"]}, r"'sr': expected the turn t, such as sr@5"),
        ("tables", {"metrics": ["relevance"]}, "not in `judges:`"),
        ("tables", {"row": ["agent"]}, "did you mean 'rows'|unknown key 'row'"),
        ("figures", {"kind": "turns", "axis": "agnt"}, "did you mean 'agent'"),
        ("figures", {"kind": "pie"}, "'turns', 'tradeoff'|turns"),
        ("figures", {}, "kind"),
    ],
)
def test_what_a_table_or_figure_cannot_be_is_said_with_its_line(tmp_path, part, spec, message):
    path = write_sweep(tmp_path, grid=GRID, **{part: {"x": spec}})
    with pytest.raises(UsageError, match=message) as found:
        load_plan(path, [])
    assert f"{path}:" in str(found.value)
