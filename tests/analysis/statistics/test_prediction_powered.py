"""Judged metrics corrected by people: closed forms, simulations of known truth, made-up folders."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import analysis
from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.corrected import as_csv, make_corrected, sheet
from analysis.statistics.prediction_powered import Corrected, prediction_powered, within
from analysis.tables.table import make_table
from runner.commands.compare import show_comparison
from tests.analysis.builder import Built, grid_of

CASES, LABELLED = 300, 60


def corrected(judge, people, judged=None) -> Corrected:
    every = np.ones(np.shape(judge), bool)
    found = prediction_powered(judge, people, every if judged is None else judged)
    assert found is not None
    return found


def drawn(rng, cases=CASES, labelled=LABELLED, noise=0.8, bias=0.7, repetitions=1):
    """What the judge and people say: the judge is too kind, and blind to part of what they see."""
    case = rng.normal(size=(cases, 1))
    truth = 3 + case + 0.5 * rng.normal(size=(cases, repetitions))
    judge = truth + bias + noise * rng.normal(size=truth.shape)
    people = np.full(truth.shape, np.nan)
    chosen = rng.choice(cases, labelled, replace=False)
    people[chosen, rng.integers(0, repetitions, labelled)] = 0.0
    return judge, np.where(np.isnan(people), np.nan, truth)


def test_it_is_the_estimate_of_the_papers():
    """PPI++ with its weight, which is ours x N / (n + N): equation 3, proposition 2, theorem 1."""
    judge, people = drawn(np.random.default_rng(0), cases=20_000, labelled=2_000)
    found = corrected(judge, people)
    has = np.isfinite(people)
    y, f, rest = people[has], judge[has], judge[~has]
    n, more = len(y), len(rest)
    weight = found.weight * more / (n + more)
    assert found.corrected == pytest.approx(
        weight * rest.mean() + (y - weight * f).mean(), abs=1e-12
    )
    best = np.cov(y, f)[0, 1] / ((1 + n / more) * np.var(judge, ddof=1))
    assert weight == pytest.approx(best, rel=0.05)
    variance = weight**2 * rest.var() / more + (y - weight * f).var() / n
    assert found.error == pytest.approx(np.sqrt(variance), rel=0.03)
    assert (found.raw, found.people) == (pytest.approx(judge.mean()), pytest.approx(y.mean()))
    assert (found.labelled, found.labelled_cases, found.episodes) == (2_000, 2_000, 20_000)


def test_the_limits():
    rng = np.random.default_rng(1)
    judge, people = drawn(rng)
    has = np.isfinite(people)
    perfect = corrected(judge, np.where(has, judge, np.nan))
    error = judge.std() / np.sqrt(CASES)
    assert perfect.weight == pytest.approx(1, abs=0.1)  # it is estimated
    assert perfect.corrected == pytest.approx(judge.mean(), abs=error / 2)
    assert perfect.error == pytest.approx(error, rel=0.05)
    shifted = corrected(judge, np.where(has, judge - 2, np.nan))
    assert shifted.corrected == pytest.approx(judge.mean() - 2, abs=error / 2)
    constant = corrected(np.full_like(judge, 4.0), people)
    assert (constant.weight, constant.corrected) == (0, pytest.approx(people[has].mean()))
    useless = corrected(rng.normal(size=judge.shape), people)
    assert useless.weight < 0.3
    everything = corrected(judge, judge + 1)
    assert everything.corrected == pytest.approx(judge.mean() + 1)
    for few in (0, 1):
        some = np.full_like(judge, np.nan)
        some[:few] = 3.0
        assert prediction_powered(judge, some, np.ones(judge.shape, bool)) is None


@pytest.mark.parametrize("repetitions", [1, 3])
def test_the_interval_covers_a_known_truth_where_the_judge_is_wrong(repetitions):
    """The truth is 3. Of 1,000 intervals of 95 %, 93 to 97 % cover it (3 standard errors)."""
    rng = np.random.default_rng(2)
    sweeps = [corrected(*drawn(rng, repetitions=repetitions)) for _ in range(1_000)]
    assert np.mean([one.corrected for one in sweeps]) == pytest.approx(3, abs=0.01)
    assert np.mean([one.raw for one in sweeps]) == pytest.approx(3.7, abs=0.01)
    covered = np.mean([one.low <= 3 <= one.high for one in sweeps])
    assert 0.93 <= covered <= 0.97
    # The labels alone need a third more for the same error: sd of Y against that of Y - L f.
    alone = np.std([one.people for one in sweeps])
    assert np.std([one.corrected for one in sweeps]) < 0.85 * alone


def test_dialogues_without_a_verdict_count_as_known_and_need_no_label():
    """A share of 0.4 accepts nothing and is 0; cases in which all are 0 are never seen labelled."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(1_000):
        judge, people = drawn(rng, repetitions=2)
        accepts = rng.random(judge.shape) < 0.6
        judge, people = np.where(accepts, judge, 0.0), np.where(accepts, people, np.nan)
        found.append(corrected(judge, people, accepts))
    truth = 0.6 * 3
    assert np.mean([one.corrected for one in found]) == pytest.approx(truth, abs=0.01)
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.97


@pytest.fixture
def built() -> Built:
    """Two agents on 8 cases and 2 seeds; people labelled both turns of 4 cases under one seed."""
    built = Built(
        grid_of("a", "b", backbones=["s"]), seeds=[0, 1], case_ids=[f"u{n}" for n in range(8)]
    )
    judge = built.judge("relevance", "clarity", "sufficiency", "alignment")
    rng = np.random.default_rng(5)
    for place, cell in enumerate(built.cells):
        for number, case in enumerate(built.case_ids):
            for seed in built.seeds:
                episode = built.episode(cell, case, seed)
                for turn in (1, 2):
                    truth = int(rng.integers(1, 5)) - (place and turn == 1)
                    for dimension in ("clarity", "sufficiency", "alignment"):
                        built.verdict(judge, episode, dimension, truth + 1, turn=turn)
                        if number < 4 and seed == number % 2:
                            said = truth - (number == 1)
                            built.label("ann", "relevance", episode, dimension, said, turn=turn)
                            built.label("bo", "relevance", episode, dimension, said + 1, turn=turn)
                # One turn of another dialogue is not enough.
                if number == 5 and seed == 0:
                    built.label("ann", "relevance", episode, "clarity", 1, turn=1)
    return built


def by_hand(folder, cells) -> tuple[np.ndarray, np.ndarray]:
    """Judge's and people's means of each dialogue, of shape (cases, seeds), by pandas."""
    results = Results.open(folder)
    rows = results.query(
        "SELECT cell, position, seed, annotator IS NULL AS judge, turn, value "
        "FROM judgements JOIN episodes USING (attempt_id)"
    ).df()
    means = rows.groupby(["cell", "position", "seed", "judge"]).value.mean().unstack()
    complete = rows[~rows.judge].groupby(["cell", "position", "seed"]).size() == 12
    means[False] = means[False].where(complete.reindex(means.index, fill_value=False))
    judge = means[True].unstack().to_numpy().reshape(len(cells), 8, 2)
    return judge, means[False].unstack().to_numpy().reshape(len(cells), 8, 2)


def test_a_table_and_a_comparison_have_raw_and_corrected_side_by_side(built, tmp_path):
    folder = built.write(tmp_path / "out")
    judge, people = by_hand(folder, built.cells)
    results = Results.open(folder)
    table = make_corrected(results, ["sr@5", "relevance"])
    assert [row.metric for row in table.rows] == ["relevance"] * 2
    plain = make_table(results, ["relevance"])
    for cell, row in enumerate(table.rows):
        assert row.found is not None
        assert row.found == corrected(judge[cell], people[cell])
        assert row.found.raw == pytest.approx(plain.rows[cell].values[0].mean)
        assert (row.found.labelled, row.found.episodes) == (4, 16)
    assert any("people have labelled 10 dialogues for relevance" in note for note in plain.notes)
    printed = sheet(table)
    assert [*printed.labels, *printed.value_heads] == [
        "agent", "roles.agent", "metric", "raw", "people", "corrected", "95 % interval", "L",
        "labelled",
    ]  # fmt: skip
    assert printed.rows[0][-1].text == "4 of 16"
    frame = analysis.open(folder).corrected("relevance")
    assert frame.corrected.tolist() == [row.found.corrected for row in table.rows if row.found]
    assert frame.attrs["notes"] == table.notes
    (first, _) = csv.DictReader(io.StringIO(as_csv(table)))
    assert float(first["corrected"]) == table.rows[0].found.corrected  # type: ignore[union-attr]
    out = io.StringIO()
    show_comparison(
        str(folder), axis="agent", metrics=["relevance"], baseline=None, console=Console(file=out)
    )
    apart = corrected(judge[0] - judge[1], people[0] - people[1])
    assert (
        f"corrected by labels of people {apart.corrected:+.3f}, 95 % interval [{apart.low:+.3f}, "
        f"{apart.high:+.3f}]" in " ".join(out.getvalue().split())
    )
    assert "4 of 16 pairs of episodes are labelled" in " ".join(out.getvalue().split())


def test_groups_of_users_are_corrected_by_the_labels_of_their_own(built, tmp_path):
    built.groups = {
        case: ["Active" if number < 6 else "Passive"] for number, case in enumerate(built.case_ids)
    }
    folder = built.write(tmp_path / "out")
    judge, people = by_hand(folder, built.cells)
    frame = (
        analysis.open(folder).corrected("relevance", by="openness").set_index(["agent", "group"])
    )
    active = corrected(judge[0][:6], people[0][:6])
    assert frame.loc[("a", "Active"), "corrected"] == pytest.approx(active.corrected)
    assert frame.loc[("a", "Active"), ["labelled", "episodes"]].tolist() == [4, 12]
    assert np.isnan(frame.loc[("a", "Passive"), "corrected"])  # no one has labelled these
    whole = frame.loc[("b", "overall_pooled"), "corrected"]
    assert whole == pytest.approx(corrected(judge[1], people[1]).corrected)


def test_a_win_rate_is_corrected_by_the_majority_of_people(tmp_path):
    built = Built(
        grid_of("a", "b", backbones=["s"]), seeds=[0], case_ids=[f"u{n}" for n in range(6)]
    )
    pairs = {"of": "dialogue", "axis": "agent", "baseline": "a", "against": ["b"]}
    judge = built.judge("pairwise", "overall", scale=(0, 1), pairs=pairs)
    says = [1, 1, 1, 0, 1, 1]
    votes = {0: (1, 1, 0), 1: (0, 0, 1), 2: (1, 0.5, 0)}  # won, lost, split
    for number, case in enumerate(built.case_ids):
        one, other = (built.episode(cell, case, 0) for cell in built.cells)
        for order in ("ab", "ba"):
            named = {"against": other, "order": order, "turn": None}
            built.verdict(judge, one, "overall", says[number], **named)
        for name, value in zip(("ann", "bo", "cy"), votes.get(number, ()), strict=False):
            built.label(name, "pairwise", one, "overall", value, against=other, turn=None)
    results = Results.open(built.write(tmp_path / "out"))
    first, second = make_corrected(results, ["win_rate@overall", "order_bias@overall"]).rows
    f = np.array(says, float)[:, None]
    y = np.array([1, 0, 0, np.nan, np.nan, np.nan])[:, None]
    lost = np.array([0, 1, 0, np.nan, np.nan, np.nan])[:, None]
    assert first.found == within(corrected(f, y), 0, 1)
    assert second.found == within(corrected(1 - f, lost), 0, 1)
    assert first.found is not None
    assert (corrected(f, y).high > 1, first.found.high) == (True, 1)


@given(
    st.lists(st.floats(-2, 3), min_size=3, max_size=3).map(sorted), st.sampled_from([1.0, 100.0])
)
def test_what_no_share_can_be_is_cut_off_and_nothing_else(values, highest):
    low, mean, high = values
    found = Corrected(0.5, 0.5, mean, 0.1, low, high, 0.5, 9, 9, 99)
    cut = within(found, 0.0, highest)
    for before, after in zip(values, (cut.low, cut.corrected, cut.high), strict=True):
        assert after == (before if 0 <= before <= highest else 0 if before < 0 else highest)
    assert within(found, None, None) == found


def test_persuasiveness_of_rejections_is_known_without_a_label(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=[f"u{n}" for n in range(8)])
    judge = built.judge("intention", "pre", "post", "true")
    names = ("pre", "post", "true")
    says = [(1, 4, 5), (2, 3, 4), (1, 5, 3), (3, 4, 5), (2, 2, 4)]  # then 3 rejections
    said = {0: (1, 2, 5), 1: (2, 2, 4), 2: (1, 3, 3)}
    for number, case in enumerate(built.case_ids):
        if number >= len(says):
            built.episode(built.cells[0], case, 0)
            continue
        episode = built.episode(built.cells[0], case, 0, success_turn=2, accepted_item="i0")
        for name, score in zip(names, says[number], strict=True):
            built.verdict(judge, episode, name, score, turn=2, item="i0")
        for name, score in zip(names, said.get(number, ()), strict=False):
            built.label("ann", "intention", episode, name, score, turn=2, item="i0")
    results = Results.open(built.write(tmp_path / "out"))
    metrics = ["prs_zero_if_rejected", "prs_over_accepted"]
    every, accepted = (row.found for row in make_corrected(results, metrics).rows)

    def persuasiveness(scores):
        return [100 * (1 - (true - post) / (true - pre)) for pre, post, true in scores]

    f = np.array([*persuasiveness(says), 0, 0, 0])[:, None]
    y = np.array([*persuasiveness(said.values()), *[np.nan] * 2, 0, 0, 0])[:, None]
    assert every == corrected(f, y, np.arange(8)[:, None] < 5)
    assert accepted == corrected(f[:5], y[:5])
    assert every is not None
    assert accepted is not None
    assert every.corrected == pytest.approx(5 / 8 * accepted.corrected)
    assert every.people == pytest.approx(5 / 8 * accepted.people)
    assert (every.labelled, every.episodes) == (3, 8)


def test_without_labels_it_is_refused_in_one_line(tmp_path):
    built = Built(grid_of("a", backbones=["s"]))
    built.judge("relevance", "clarity", "sufficiency", "alignment")
    results = Results.open(built.write(tmp_path / "out"))
    with pytest.raises(UsageError, match="has no labels by people for the judged metrics"):
        make_corrected(results, ["relevance"])
    with pytest.raises(UsageError, match=r"only judged metrics, found sr@5, tokens; name one"):
        make_corrected(results, ["sr@5", "tokens"])
