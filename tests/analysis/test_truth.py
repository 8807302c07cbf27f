"""Tables against an independent calculation from the raw Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.results import Results
from analysis.tables.table import make_table
from tests.analysis import by_pandas as truth
from tests.analysis.builder import messy

METRICS: dict[str, truth.Score] = {
    "sr@1": truth.sr(1),
    "sr@3": truth.sr(3),
    "sr@5": truth.sr(5),
    "at_fail_plus_1": truth.at(1),
    "at_fail_t": truth.at(0),
    "at_success_only": truth.at(None),
    "sr_clean@3": truth.clean(truth.sr(3)),
    "sr_clean@5": truth.clean(truth.sr(5)),
    "at_fail_plus_1_clean": truth.clean(truth.at(1)),
    "at_success_only_clean": truth.clean(truth.at(None)),
    "dsr_pooled@3": truth.dsr(3, pooled=True),
    "dsr_pooled@5": truth.dsr(5, pooled=True),
    "dsr_dialogue@5": truth.dsr(5, pooled=False),
    "hr@5_turn": truth.hr(5, session=False),
    "hr@5_session": truth.hr(5, session=True),
    "recall@4": truth.ranked(4, gain=False),
    "ndcg@4": truth.ranked(4, gain=True),
    "tokens": truth.tokens(),
    "tokens@agent": truth.tokens("agent"),
    "tokens@user:reply": truth.tokens("user"),
    "tokens@agent.probe": truth.tokens("agent.probe"),
}


def assert_equal_to_pandas(folder: Path, *, complete_only: bool) -> None:
    results, found = Results.open(folder), truth.read(folder, complete_only=complete_only)
    names = [*METRICS, *(completed(name) for name in METRICS)]
    table = make_table(results, names, complete_only=complete_only)
    for row, cell in zip(table.rows, results.manifest.cells, strict=True):
        for name, value in zip(names, row.values, strict=True):
            score = METRICS[name.replace("_completed", "")]
            want = truth.expected(found, score, cell.cell_id, completed="_completed" in name)
            where = f"{name} of {cell.cell_id}"
            assert value.mean == pytest.approx(want.mean, abs=1e-12), where
            assert value.std == pytest.approx(want.std, abs=1e-12), where
            assert value.episodes == want.n, where


def completed(name: str) -> str:
    head, at, argument = name.partition("@")
    return f"{head}_completed{at}{argument}"


@pytest.mark.parametrize("complete_only", [True, False])
@pytest.mark.parametrize("number", range(4))
def test_every_number_equals_pandas_over_the_raw_parquet(tmp_path, number, complete_only):
    assert_equal_to_pandas(messy(number).write(tmp_path), complete_only=complete_only)


def test_a_cell_that_has_nothing_under_one_seed_leaves_the_others_their_numbers(tmp_path):
    built = messy(2)
    rows = built.rows["episodes"]
    rows[:] = [row for row in rows if (row["cell_id"], row["seed"]) != ("tool/weak", 1)]
    assert_equal_to_pandas(built.write(tmp_path), complete_only=True)
    counted = [row.counted for row in make_table(Results.open(tmp_path), ["sr@5"]).rows]
    assert all(counted[:3]) and counted[3] == 0


def test_numbers_do_not_depend_on_how_rows_lie_in_parts(tmp_path):
    built, names = messy(1), ["sr@5", "dsr_pooled@5", "tokens@agent"]
    tables = [
        make_table(Results.open(built.write(tmp_path / str(parts), parts=parts)), names).rows
        for parts in (1, 5)
    ]
    for one, five in zip(*tables, strict=True):
        for a, b in zip(one.values, five.values, strict=True):
            assert (a.mean, a.episodes) == (pytest.approx(b.mean, abs=1e-12), b.episodes)
