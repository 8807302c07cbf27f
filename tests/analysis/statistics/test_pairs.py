"""The table of wins, losses and ties."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from scipy.stats import binomtest

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics import pairs
from analysis.statistics.pairs import PairTable, make_pairs
from analysis.statistics.significance import holm, sign_test
from analysis.tables import sheets
from tests.analysis.builder import Built, Row, grid_of

CASES, SEEDS = 4, 2
# By backbone, opponent and seed, the value of the baseline for each case; "order" depends on it.
SCRIPT: dict[tuple[str, str, int], list[float | str]] = {
    ("s", "b", 0): [1, 1, 0, 0.5],
    ("s", "b", 1): [1, 1, 1, "order"],
    ("s", "c", 0): [0, 0, 0, 0],
    ("s", "c", 1): [0, 0, 0, 0],
    ("w", "b", 0): [1, 1, 1, 1],
    ("w", "b", 1): [1, 0, 1, 1],
    ("w", "c", 0): [0.5, 0.5, 0.5, 0.5],
    ("w", "c", 1): [0.5, 0.5, 0.5, "unparsed"],
}


def judged(**changes: object) -> Built:
    built = Built(
        grid_of("a", "b", "c", backbones=["s", "w"]),
        seeds=list(range(SEEDS)),
        case_ids=[f"u{n}" for n in range(CASES)],
    )
    choice = {"of": "response", "axis": "agent", "baseline": "a", "against": ["b", "c"]}
    judge = built.judge("pairwise", "overall", scale=(0, 1), pairs=choice)
    played = {
        (cell.axes["agent"], cell.axes["roles.agent"], case, seed): built.episode(cell, case, seed)
        for cell in built.cells
        for case in built.case_ids
        for seed in built.seeds
    }
    for (backbone, against, seed), values in SCRIPT.items():
        for case, value in zip(built.case_ids, values, strict=True):
            first = played["a", backbone, case, seed]
            second = played[against, backbone, case, seed]
            add(built, judge, first, second, value)
    return built


def add(built: Built, judge: Row, first: Row, second: Row, value: float | str) -> None:
    ab, ba = {"order": (1, 0), "unparsed": (1, None)}.get(str(value), (value, value))
    for order, given in (("ab", ab), ("ba", ba)):
        built.verdict(judge, first, "overall", given, against=second, order=order)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> PairTable:
    return make_pairs(Results.open(judged().write(tmp_path_factory.mktemp("pairs"))))


def test_shares_are_of_each_seed_then_over_seeds_and_biased_verdicts_are_ties(table):
    first = table.rows[0]
    assert (first.context, first.baseline, first.against) == ({"roles.agent": "s"}, "a", "b")
    assert (first.wins, first.losses, first.ties, first.biased) == (5, 1, 2, 1)
    assert (first.pairs, first.planned) == (8, 8)
    assert first.win.mean == pytest.approx((50 + 75) / 2)
    assert first.win.std == pytest.approx(statistics.stdev([50, 75]))
    assert first.loss.mean == pytest.approx((25 + 0) / 2)
    assert first.tie.mean == pytest.approx((25 + 25) / 2)


def test_the_sign_test_counts_each_case_once(table):
    by_place = {(r.context["roles.agent"], r.against): r for r in table.rows}
    # Case 0 and 1: two wins each. Case 2: a win and a loss. Case 3: ties.
    assert by_place["s", "b"].p == pytest.approx(binomtest(2, 2).pvalue)
    assert by_place["s", "c"].p == pytest.approx(binomtest(0, 4).pvalue)
    assert by_place["w", "c"].p == 1
    assert [r.p_holm for r in table.rows] == holm([r.p for r in table.rows])


def test_a_pair_without_a_verdict_in_both_orders_is_not_counted(table):
    row = next(r for r in table.rows if r.context["roles.agent"] == "w" and r.against == "c")
    assert (row.pairs, row.planned, row.tie.mean) == (7, 8, 100)
    assert "judge pairwise: 1 of 64 verdicts are unparsed and left out (overall 1)" in table.notes


def test_contexts_are_followed_by_all_of_them_together(table):
    assert [(r.context["roles.agent"], r.against) for r in table.rows] == [
        ("s", "b"), ("s", "c"), ("w", "b"), ("w", "c"), ("all", "b"), ("all", "c"),
    ]  # fmt: skip
    pooled = table.rows[4]
    assert (pooled.wins, pooled.losses, pooled.ties, pooled.planned) == (12, 2, 2, 16)
    assert pooled.win.mean == pytest.approx((100 * 6 / 8 + 100 * 6 / 8) / 2)


def test_the_table_is_printed_with_its_watermark_in_every_format(table, tmp_path):
    lines = sheets.markdown(pairs.sheet(table)).splitlines()
    assert lines[2] == (
        "| s | a | b | overall | 62.5 ± 17.7 | 12.5 ± 17.7 | 25.0 ± 0.0 | 8 of 8 | 1 | 0.5000 "
        "| 1.0000 |"
    )
    (first, *_) = csv.DictReader(io.StringIO(pairs.as_csv(table)))
    assert (first["roles.agent"], first["win"], first["wins"]) == ("s", "62.5", "5")
    marked = make_pairs(Results.open(judged().write(tmp_path, watermark=["rules"])))
    assert any(note.startswith("WATERMARK") for note in pairs.sheet(marked).notes)


def test_incomplete_blocks_are_left_out_unless_everything_is_wanted(tmp_path):
    built = judged()
    built.rows["episodes"].remove(
        next(e for e in built.rows["episodes"] if e["attempt_id"] == "c/w-u0-1-0")
    )
    results = Results.open(built.write(tmp_path))
    assert make_pairs(results).rows[0].pairs == 6
    assert make_pairs(results, complete_only=False).rows[0].pairs == 8


def test_pairs_that_no_judge_has_read_have_no_p_and_cost_the_others_nothing(tmp_path):
    built = Built(grid_of("a", "b", "c", backbones=["s"]), seeds=[0])
    choice = {"of": "dialogue", "axis": "agent", "baseline": "a", "against": ["b", "c"]}
    judge = built.judge("pairwise", "overall", scale=(0, 1), pairs=choice)
    for case in built.case_ids:
        one, other, _ = (built.episode(cell, case, 0) for cell in built.cells)
        for order in ("ab", "ba"):
            built.verdict(judge, one, "overall", 1, against=other, order=order, turn=None)
    found = make_pairs(Results.open(built.write(tmp_path)))
    judged, unread = found.rows
    assert judged.p == judged.p_holm == 0.125
    assert unread.pairs == 0
    assert [cell.text for cell in pairs.sheet(found).rows[1]][-2:] == ["–", "–"]
    assert pairs.as_csv(found).splitlines()[2].endswith(",0,4,,")


def test_a_sweep_without_a_judge_of_pairs_is_refused(tmp_path):
    built = Built(grid_of("a"))
    built.judge("relevance", "clarity")
    with pytest.raises(UsageError, match=r"compares pairs \(judges: relevance\), .*add `pairwise`"):
        make_pairs(Results.open(built.write(tmp_path)))


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (5, 5), (12, 4), (60, 41)])
def test_the_sign_test_is_that_of_scipy(wins, losses):
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1
    assert sign_test(wins, losses) == pytest.approx(expected)
