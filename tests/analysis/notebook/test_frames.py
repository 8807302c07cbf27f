"""Results as pandas frames."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import analysis
from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.compare import compare_all
from analysis.tables.table import make_table
from tests.analysis.builder import CALL, TURN, Built, Cell, grid_of, recorded
from tests.conftest import ROOT

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def built() -> Built:
    """Two agents x two models, 8 cases x 3 seeds; only `strong` wins, but for case 1 and seed 0."""
    found = Built(grid_of("ask", "tool"), case_ids=list("12345678"))
    relevance = found.judge("relevance", "clarity")
    for cell in found.cells:
        for case_id in found.case_ids:
            for seed in found.seeds:
                won = cell.axes["roles.agent"] == "strong" and (case_id, seed) != ("1", 0)
                row = found.episode(
                    cell, case_id, seed, success_turn=1 if won else None, turns=[TURN], calls=[CALL]
                )
                found.verdict(relevance, row, "clarity", 4.0)
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    return built().write(tmp_path / "out")


def test_the_page_of_the_docs_runs_unchanged(folder, capsys):
    page = (ROOT / "docs/python.md").read_text()
    code = "\n".join(BLOCK.findall(page)).replace("results/ml100k", str(folder))
    names: dict = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert names["best"]["roles.agent"] == "strong"
    assert list(names["clear"].metric) == ["sr@5", "at_fail_plus_1"]
    assert names["wide"].loc[("ask", "weak"), "sr@5"] == 0
    assert (names["calls"].case_id == "1").all()
    assert len(names["calls"]) == 4
    assert names["by_turn"].values.tolist() == [["strong", 1, 46]]
    assert len(names["opening"]) == 46
    assert len(names["judgements"]) == 96
    assert "over 3 seeds" in capsys.readouterr().out


def test_a_table_has_the_numbers_and_notes_of_the_printed_one(folder):
    frame = analysis.open(folder).table()
    table = make_table(Results.open(folder), ["sr@5"])
    values = [row.values[0] for row in table.rows]
    assert frame["mean"].tolist() == [value.mean for value in values]
    assert frame["std"].tolist() == pytest.approx([v.std for v in values], nan_ok=True)
    assert frame[["agent", "n", "counted", "planned"]].values.tolist() == [
        [row.axes["agent"], 24, 24, 24] for row in table.rows
    ]
    assert frame.attrs["notes"] == table.notes


def test_what_is_undefined_is_nan_and_the_columns_stay_numbers(folder):
    frame = analysis.open(folder).table(["hr@50_turn", "sr@5"])
    undefined = frame[frame.metric == "hr@50_turn"]
    assert undefined["mean"].isna().all()
    assert (frame["mean"].dtype, frame["std"].dtype) == (np.dtype(float), np.dtype(float))
    assert undefined["n"].tolist() == [0, 0, 0, 0]


def test_comparisons_are_those_of_the_command(folder):
    frame = analysis.open(folder).compare("roles.agent", "sr@5")
    (expected,) = compare_all(Results.open(folder), ["sr@5"], "roles.agent").found
    assert frame.loc[0, "difference"] == expected.difference
    assert frame.loc[0, "p_holm"] == expected.p_holm
    assert expected.variance is not None
    assert frame.loc[0, "variance_case"] == expected.variance.case
    assert (frame.loc[0, "conclusion_holds"], frame.attrs["notes"]) == (None, [])
    assert frame.attrs["tied"] == {"sr@5": ["strong"]}


def test_groups_of_users_are_a_column_of_tables_and_comparisons(tmp_path):
    sweep = built()
    sweep.groups = {"1": ["Active"], "2": ["Passive"], "3": ["Passive"], "4": ["Neutral"]}
    found = analysis.open(sweep.write(tmp_path))
    frame = found.table("sr@5", by="openness").set_index(["agent", "roles.agent", "group"])
    assert frame.loc[("ask", "strong", "Active"), "mean"] == pytest.approx(2 / 3)
    assert frame.loc[("ask", "strong", "Passive"), ["n", "counted", "planned"]].tolist() == [6] * 3
    assert set(frame.metric) == {"sr@5"}
    frame = found.compare("roles.agent", "sr@5", by=["openness"]).set_index("group")
    assert frame.index.tolist() == ["Active", "Neutral", "Passive", "overall_pooled"]
    assert frame.loc["Active", "difference"] == pytest.approx(2 / 3)


def test_rows_of_an_episode_carry_its_axes_and_the_failed_attempts_are_left_out(tmp_path):
    sweep = Built(grid_of("ask", backbones=["strong"]), seeds=[7], case_ids=["1", "2"])
    cell = sweep.cells[0]
    sweep.failed(cell, "1", 7, "infrastructure", turns=[TURN], calls=[CALL])
    sweep.episode(cell, "1", 7, attempt=1, success_turn=1, turns=[TURN], calls=[CALL])
    sweep.episode(cell, "2", 7, turns=[TURN, {**TURN, "turn": 2}], calls=[CALL, CALL])
    found = analysis.open(sweep.write(tmp_path / "out"))
    assert found.episodes().success.tolist() == [True, False]
    turns = found.turns()
    keys = ["case_id", "seed", "agent", "roles.agent", "turn"]
    one, two = ["1", 7, "ask", "strong"], ["2", 7, "ask", "strong"]
    assert turns[keys].values.tolist() == [[*one, 0], [*one, 1], [*two, 0], [*two, 1], [*two, 2]]
    assert len(found.calls()) == 3
    assert found.df("select count(*) as n from attempts").n.tolist() == [3]
    assert found.judgements().empty


def test_a_condition_is_one_condition(folder):
    found = analysis.open(folder)
    assert len(found.episodes("success -- and only these")) == 46
    for bad in ("1=1); drop table x; --", "nonsense >"):
        with pytest.raises(UsageError, match="SQL"):
            found.turns(bad)
    with pytest.raises(UsageError, match="only reads"):
        found.df("create table x as select 1")


def test_an_axis_named_like_a_column_has_its_own(tmp_path):
    sweep = Built([Cell("a", {"success": "user_accepts"})], seeds=[0], case_ids=["1"])
    sweep.episode(sweep.cells[0], "1", 0, success_turn=1, turns=[TURN])
    found = analysis.open(sweep.write(tmp_path / "out"))
    assert found.table()["axis.success"].tolist() == ["user_accepts"]
    assert found.turns()["axis.success"].tolist() == ["user_accepts"] * 2


def test_a_folder_without_a_single_episode_gives_empty_frames(tmp_path):
    found = analysis.open(Built(grid_of("ask"), seeds=[0]).write(tmp_path / "out"))
    assert found.episodes().empty
    assert list(found.turns().columns)[:3] == ["episode_id", "case_id", "seed"]
    assert found.table()["mean"].isna().all()


def test_what_was_committed_since_is_there_after_a_refresh(tmp_path):
    sweep = Built(grid_of("ask", backbones=["s"]), seeds=[0], case_ids=["1"])
    found = analysis.open(sweep.write(tmp_path / "out"))
    sweep.episode(
        sweep.cells[0], "1", 0, success_turn=1, opening={"user_extra": recorded(leak=True)}
    )
    sweep.write(tmp_path / "out")
    found.refresh()
    assert len(found.episodes()) == 1


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(UsageError, match="contains no sweep"):
        analysis.open(tmp_path)
