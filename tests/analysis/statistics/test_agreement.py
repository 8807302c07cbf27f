"""Agreement, against an independent calculation with pandas, scipy and scikit-learn."""

from __future__ import annotations

import csv
import io
import random
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.agreement import (
    AgreementRow,
    AgreementTable,
    agreement,
    alpha,
    as_csv,
    majority,
    make_agreement,
    sheet,
)
from analysis.tables import sheets
from tests.analysis.builder import Built, grid_of

PEOPLE = ("ann", "bo", "cy")


def table_of(built: Built, folder, judge: str | None = None) -> AgreementTable:
    return make_agreement(Results.open(built.write(folder)), judge)


def row_of(table: AgreementTable, dimension: str, *raters: str, judge: str = "") -> AgreementRow:
    (found,) = (
        row
        for row in table.rows
        if row.dimension == dimension
        and (row.first, row.second) == raters
        and judge in ("", row.judge)
    )
    return found


def alpha_by_pandas(labels: pd.DataFrame, level: str) -> float:
    """Krippendorff (2011), by the matrix of coincidences. `labels`: unit, rater, value."""
    values = sorted(labels.value.unique())
    coincidences = pd.DataFrame(0.0, values, values)
    for _, unit in labels.groupby("unit"):
        if len(unit) > 1:
            for i, a in enumerate(unit.value):
                for j, b in enumerate(unit.value):
                    if i != j:
                        coincidences.loc[a, b] += 1 / (len(unit) - 1)
    n = coincidences.sum(axis=1)

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        low, high = sorted((a, b))
        between = n[(n.index >= low) & (n.index <= high)].sum()
        return (between - (n[a] + n[b]) / 2) ** 2

    pairs = [(a, b) for a in values for b in values]
    observed = sum(coincidences.loc[a, b] * distance(a, b) for a, b in pairs)
    expected = sum(n[a] * n[b] * distance(a, b) for a, b in pairs) / (n.sum() - 1)
    return 1 - observed / expected


@pytest.fixture(scope="module")
def scales(tmp_path_factory) -> tuple[AgreementTable, pd.DataFrame]:
    """Three annotators and a judge with three samples, on turns of 12 dialogues; with gaps."""
    built = Built(grid_of("a", backbones=["s"]), case_ids=[f"u{n}" for n in range(12)], seeds=[0])
    judge = built.judge("relevance", "clarity", samples=3)
    draw = random.Random(4)
    rows = []
    for case in built.case_ids:
        episode = built.episode(built.cells[0], case, 0)
        for turn in (1, 2, 3):
            truth, unit = draw.randint(1, 5), f"{case}/{turn}"
            for annotator in PEOPLE:
                if draw.random() < 0.85:
                    value = min(5, max(1, truth + draw.choice([-1, 0, 0, 1])))
                    built.label(annotator, "relevance", episode, "clarity", value, turn=turn)
                    rows.append((unit, annotator, value))
            samples = [min(5, max(1, truth + draw.choice([0, 1, 2]))) for _ in range(3)]
            for sample, value in enumerate(samples):
                built.verdict(judge, episode, "clarity", value, turn=turn, sample=sample)
            rows.append((unit, "judge", sorted(samples)[1]))
    table = table_of(built, tmp_path_factory.mktemp("scales"))
    return table, pd.DataFrame(rows, columns=["unit", "rater", "value"])


@pytest.mark.parametrize("raters", [*(("judge", p) for p in PEOPLE), *combinations(PEOPLE, 2)])
def test_two_raters_on_a_scale(scales, raters):
    table, labels = scales
    row = row_of(table, "clarity", *raters)
    both = labels[labels.rater.isin(raters)].pivot(index="unit", columns="rater").value.dropna()
    first, second = both[raters[0]], both[raters[1]]
    assert row.units == len(both) > 20
    assert row.equal == pytest.approx((first == second).mean())
    assert row.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert row.spearman == pytest.approx(spearmanr(first, second).statistic)
    long = both.reset_index().melt(id_vars="unit", value_name="value")
    assert row.alpha == pytest.approx(alpha_by_pandas(long, "ordinal"))


def test_all_annotators_of_a_scale(scales):
    table, labels = scales
    row = row_of(table, "clarity", "people", "all 3")
    people = labels[labels.rater != "judge"]
    votes = people.groupby("unit").value.agg(list)
    votes = votes[votes.map(len) > 1]  # units with one label are left out
    assert row.units == len(votes) < 36
    equal = [a == b for given in votes for a, b in combinations(given, 2)]
    assert row.equal == pytest.approx(np.mean(equal))
    assert row.alpha == pytest.approx(alpha_by_pandas(people, "ordinal"))
    assert row.split == sum(2 * max(map(v.count, v)) <= len(v) for v in votes) > 0
    assert (row.kappa, row.spearman) == (None, None)


def test_the_judge_is_compared_with_the_majority_where_there_is_one(scales):
    table, labels = scales
    row = row_of(table, "clarity", "judge", "majority")
    people = labels[labels.rater != "judge"].groupby("unit").value
    most = people.agg(lambda v: v.mode()[0] if 2 * (v == v.mode()[0]).sum() > len(v) else None)
    most = most[people.size() > 1]
    judge = labels[labels.rater == "judge"].set_index("unit").value
    both = pd.concat([judge, most.dropna()], axis=1, join="inner")
    assert (row.units, row.split) == (len(both), most.isna().sum())
    assert row.kappa == pytest.approx(cohen_kappa_score(*both.to_numpy().T.astype(int)))
    assert row.equal == pytest.approx((both.iloc[:, 0] == both.iloc[:, 1]).mean())


def test_majority_of_three():
    assert [majority(v) for v in ([1, 1, 0], [0.5, 0, 0.5], [1, 0.5, 0], [1, 0], [1])] == [
        1, 0.5, None, None, 1,
    ]  # fmt: skip


def pairs_of_replies(judge_says: dict[int, tuple[float, float]]) -> Built:
    """Six cases, two replies each, as three people see them."""
    built = Built(grid_of("a", "b", backbones=["s"]), case_ids=[f"u{n}" for n in range(6)])
    choice = {"of": "response", "axis": "agent", "baseline": "a", "against": ["b"]}
    judge = built.judge("pairwise", "overall", label="strict", scale=(0, 1), pairs=choice)
    votes = [(1, 1, 1), (1, 1, 0), (0, 0, 0.5), (1, 0.5, 0), (0.5, 0.5, 0.5), (1, 1, 0.5)]
    for number, (case, given) in enumerate(zip(built.case_ids, votes, strict=True)):
        first, second = (built.episode(cell, case, 0) for cell in built.cells)
        shared = {"against": second, "prefix": "a", "turn": 2, "other_reply": f"reply {number}"}
        for annotator, value in zip(PEOPLE, given, strict=True):
            built.label(annotator, "pairwise", first, "overall", value, **shared)
        for order, value in zip(("ab", "ba"), judge_says.get(number, ()), strict=False):
            built.verdict(judge, first, "overall", value, order=order, **shared)
    return built


def test_pairs_are_categories_and_a_judge_that_depends_on_the_order_says_tie(tmp_path):
    built = pairs_of_replies({0: (1, 1), 1: (1, 0), 2: (0, 0), 3: (1, 1), 4: (0.5, 0.5)})
    table = table_of(built, tmp_path)
    row = row_of(table, "overall", "judge", "majority", judge="strict")
    # 1-1, 1-tie, 0-0, split, tie-tie; the judge says nothing of the sixth.
    assert (row.units, row.split, row.equal) == (4, 1, 0.75)
    assert row.kappa == pytest.approx(cohen_kappa_score([2, 2, 0, 1], [2, 1, 0, 1]))
    assert row.spearman is None
    long = pd.DataFrame(
        [(u, r, v) for u, pair in enumerate([(1, 1), (1, 0.5), (0, 0), (0.5, 0.5)])
         for r, v in enumerate(pair)],
        columns=["unit", "rater", "value"],
    )  # fmt: skip
    assert row.alpha == pytest.approx(alpha_by_pandas(long, "nominal"))
    people = row_of(table, "overall", "people", "all 3", judge="pairwise")
    assert (people.units, people.split) == (6, 1)


def test_a_reply_that_people_did_not_see_is_another_unit(tmp_path):
    built = pairs_of_replies({0: (1, 1), 1: (1, 1)})
    for row in built.rows["judgements"]:
        if row["annotator"] is None and row["other_reply"] == "reply 1":
            row["other_reply"] = "another reply"
    assert row_of(table_of(built, tmp_path), "overall", "judge", "ann").units == 1


def crsarena(copies: bool) -> Built:
    """One aggregated label for each turn and dialogue, and a judge that copies them, or not."""
    built = Built(grid_of("crs", backbones=["x"]), case_ids=[f"d{n}" for n in range(9)], seeds=[0])
    judge = built.judge("crsarena", "relevance", "dialog_overall", scale=(0, 4))
    for number, case in enumerate(built.case_ids):
        episode = built.episode(built.cells[0], case, 0)
        for turn in (1, 2):
            label = (number + turn) % 3
            built.label("aggregate", "crsarena", episode, "relevance", label, turn=turn)
            said = label if copies else 1
            built.verdict(judge, episode, "relevance", said, turn=turn)
        built.label("aggregate", "crsarena", episode, "dialog_overall", number % 5, turn=None)
        said = number % 5 if copies else (number + 1) % 5
        built.verdict(judge, episode, "dialog_overall", said, turn=None)
    return built


def test_a_judge_that_copies_the_labels_agrees_to_1(tmp_path):
    table = table_of(crsarena(copies=True), tmp_path)
    assert [(r.dimension, r.first, r.second, r.units) for r in table.rows] == [
        ("relevance", "judge", "aggregate", 18),
        ("dialog_overall", "judge", "aggregate", 9),
    ]
    for row in table.rows:
        assert [row.equal, row.kappa, row.alpha, row.spearman] == [pytest.approx(1)] * 4


def test_a_constant_judge_has_no_kappa_and_no_correlation(tmp_path):
    table = table_of(crsarena(copies=False), tmp_path)
    row = row_of(table, "relevance", "judge", "aggregate")
    assert (row.equal, row.kappa, row.spearman) == (pytest.approx(1 / 3), "undefined", "undefined")
    assert isinstance(row.alpha, float)
    text = sheets.markdown(sheet(table))
    assert "| crsarena | relevance | judge | aggregate | 18 | 0.333 | undefined |" in text
    (first, *_) = csv.DictReader(io.StringIO(as_csv(table)))
    assert (first["n"], first["kappa"], first["split"]) == ("18", "undefined", "")


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 1, 1], [1, 1, 1]), ([2, 2, 2], [1, 2, 3]), ([1, 2], [2, 2]), ([], [])],
)
def test_constant_raters_and_no_units_at_all(first, second):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no division by zero on the way
        found = agreement(first, second, "scale")
    assert (found["kappa"], found["spearman"]) == ("undefined", "undefined")
    assert (found["alpha"] == "undefined") == (first == second)


def test_alpha_leaves_out_units_with_one_label():
    gaps = np.array([[1, 2, 3, np.nan], [1, 2, 4, 5], [np.nan, 2, np.nan, np.nan]])
    assert alpha(gaps, "scale") == pytest.approx(alpha(gaps[:, :3], "scale"))


def test_what_cannot_be_compared_is_refused_or_left_out(tmp_path):
    built = crsarena(copies=True)
    with pytest.raises(UsageError, match=r"no judge 'crsarna'; did you mean.*known: crsarena"):
        table_of(built, tmp_path / "a", "crsarna")
    built.rows["judgements"] = [r for r in built.rows["judgements"] if not r["annotator"]]
    with pytest.raises(UsageError, match="no labels by people"):
        table_of(built, tmp_path / "b")
    built = crsarena(copies=True)
    built.judge("relevance", "clarity")
    with pytest.raises(UsageError, match="what the judge 'relevance' judges"):
        table_of(built, tmp_path / "c", "relevance")


def test_a_watermark_is_kept(tmp_path):
    found = make_agreement(Results.open(crsarena(copies=True).write(tmp_path, watermark=["rules"])))
    assert found.notes[-1].startswith("WATERMARK")
